"""The plugin does what every plugin must."""

from simscaleai_devkit import PluginSuite


class TestPlugin(PluginSuite):
    component = "ray"
