"""The plugin and its strategy do what every plugin and every strategy must."""

from __future__ import annotations

from simscaleai_devkit import PluginSuite, StrategySuite


class TestPlugin(PluginSuite):
    component = "fsdp"


class TestFSDP(StrategySuite):
    component = "fsdp/fsdp"
    config = {"backend": "gloo"}
