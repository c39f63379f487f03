"""The plugin and its precision do what every plugin and every precision must."""

from __future__ import annotations

from simscaleai_devkit import PluginSuite, PrecisionSuite


class TestPlugin(PluginSuite):
    component = "amp"


class TestBfloat16(PrecisionSuite):
    component = "amp/amp"
    options = {"on_cpu": True}


class TestFloat16(PrecisionSuite):
    component = "amp/amp"
    options = {"on_cpu": True, "growth_interval": 3}
    config = {"amp_dtype": "float16"}


class TestFloat32WhereItPays(PrecisionSuite):
    component = "amp/amp"
