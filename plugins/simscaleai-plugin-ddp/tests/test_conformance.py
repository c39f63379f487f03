"""The plugin and its strategy do what every plugin and every strategy must."""

from __future__ import annotations

from simscaleai_devkit import PluginSuite, StrategySuite


class TestPlugin(PluginSuite):
    component = "ddp"


class TestDDP(StrategySuite):
    component = "ddp/ddp"
    config = {"backend": "gloo"}
