"""The plugin and its policy do what every plugin and every policy must."""

from __future__ import annotations

from simscaleai_devkit import ModelSuite, PluginSuite


class TestPlugin(PluginSuite):
    component = "vla"


class TestVLA(ModelSuite):
    component = "vla/vla"
    options = {"size": "debug", "action_horizon": 4}
