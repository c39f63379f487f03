"""What the distribution declares, and that declaring it is cheap."""

from __future__ import annotations

import attrs
import pytest
from simscaleai_devkit.support.process import modules_loaded_by
from simscaleai_plugin_wandb.options import WandbOptions

from simscaleai_core import TrainConfig
from simscaleai_core.cli.configuration import field_docs
from simscaleai_core.errors import ConfigError
from simscaleai_core.host.configuration import structure
from simscaleai_core.host.defaults import fill_defaults
from simscaleai_core.host.facade import Host
from simscaleai_core.host.lookup import import_target
from simscaleai_core.host.selection import select_plugins


def test_the_logger_is_found_by_name() -> None:
    component = Host(select_plugins(())).component("logger", "wandb")
    assert component.id == "wandb/wandb"
    assert import_target(component).__name__ == "WandbLogger"
    assert import_target(component, component.spec.options) is WandbOptions


@pytest.mark.parametrize("config", [TrainConfig(plugins=("wandb",)), TrainConfig(use_wandb=True)])
def test_the_plugin_or_the_switch_adds_the_logger(config: TrainConfig) -> None:
    filled = fill_defaults(config, Host(select_plugins(config.plugins)))
    assert [n.rpartition("/")[2] for n in filled.loggers] == ["console", "jsonl", "wandb"]


def test_the_declaration_imports_nothing_heavy() -> None:
    code = "import simscaleai_plugin_wandb.plugin as p; list(p.simscale_register_loggers())"
    assert not {"wandb", "torch", "numpy"} & modules_loaded_by(code)


def test_every_option_is_documented_and_checked() -> None:
    assert set(field_docs(WandbOptions)) == {f.name for f in attrs.fields(WandbOptions)}
    with pytest.raises(ConfigError) as caught:
        structure(WandbOptions, {"mode": "on", "init_timeout_s": 0, "tag": "x"})
    assert len(caught.value.problems) == 3
