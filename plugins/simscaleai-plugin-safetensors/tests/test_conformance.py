"""The plugin and its backend do what every plugin and every checkpoint backend must."""

from __future__ import annotations

from simscaleai_devkit import CheckpointBackendSuite, PluginSuite


class TestPlugin(PluginSuite):
    component = "safetensors"


class TestSafetensors(CheckpointBackendSuite):
    component = "safetensors/safetensors"
