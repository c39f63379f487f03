"""The plugin and its logger do what every plugin and every logger must."""
# ruff: noqa: RUF012 - the options of a suite are constants

from __future__ import annotations

from simscaleai_core.testing import LoggerSuite, PluginSuite


class TestPlugin(PluginSuite):
    component = "wandb"


class TestWandb(LoggerSuite):
    component = "wandb/wandb"
    options = {"mode": "offline"}
