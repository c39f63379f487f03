"""What the distribution declares, and that declaring it is cheap."""

from __future__ import annotations

import subprocess
import sys

import attrs
import pytest
from simscaleai_plugin_wandb.options import WandbOptions

from simscaleai_core import TrainConfig
from simscaleai_core.configio import field_docs, structure
from simscaleai_core.errors import ConfigError
from simscaleai_core.host import Host, import_target, select_plugins
from simscaleai_core.slots import fill_slots


def test_the_logger_is_found_by_name() -> None:
    component = Host(select_plugins(())).component("logger", "wandb")
    assert component.id == "wandb/wandb"
    assert import_target(component).__name__ == "WandbLogger"
    assert import_target(component, component.spec.options) is WandbOptions


@pytest.mark.parametrize("config", [TrainConfig(plugins=("wandb",)), TrainConfig(use_wandb=True)])
def test_the_plugin_or_the_switch_adds_the_logger(config: TrainConfig) -> None:
    filled = fill_slots(config, Host(select_plugins(config.plugins)))
    assert [n.rpartition("/")[2] for n in filled.loggers] == ["console", "jsonl", "wandb"]


def test_the_declaration_imports_nothing_heavy() -> None:
    code = (
        "import sys, simscaleai_plugin_wandb.plugin as p; list(p.simscale_register_loggers());"
        "print(sorted({'wandb', 'torch', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_option_is_documented_and_checked() -> None:
    assert set(field_docs(WandbOptions)) == {f.name for f in attrs.fields(WandbOptions)}
    with pytest.raises(ConfigError) as caught:
        structure(WandbOptions, {"mode": "on", "init_timeout_s": 0, "tag": "x"})
    assert len(caught.value.problems) == 3
