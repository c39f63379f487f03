"""The plugin declares its precision without loading anything heavy."""

from __future__ import annotations

import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from simscaleai_devkit.support.process import modules_loaded_by
from simscaleai_devkit.support.runs import train_small
from simscaleai_plugin_amp import plugin

from simscaleai_core.cli.app import run

ROOT = Path(__file__).parents[1]


def test_the_declaration_leads_to_the_precision() -> None:
    (spec,) = plugin.simscale_register_precisions()
    assert plugin.PLUGIN.selects == {"precision": spec.name}
    for target in (spec.target, spec.options):
        module, _, name = str(target).partition(":")
        assert isinstance(getattr(import_module(module), name), type)


def test_the_entry_point_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert import_module(project["entry-points"]["simscaleai.plugins"]["amp"]) is plugin


def test_light_modules_load_no_torch() -> None:
    code = "import simscaleai_plugin_amp.plugin, simscaleai_plugin_amp.options"
    assert "torch" not in modules_loaded_by(code)


def test_asking_for_the_plugin_selects_the_precision(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "train", "--plugin", "amp", "--amp.on-cpu", "--amp-dtype", "float16", "--max-steps", "2",
        "--device", "cpu", "--checkpoint-dir", str(tmp_path), "--amp.init-scale", "128",
    ]  # fmt: skip
    assert run(arguments) == 0
    assert "precision: float16 autocast, loss scaling" in capsys.readouterr().err


def test_every_option_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    options = import_module("simscaleai_plugin_amp.options").AmpOptions
    for field in options.__attrs_attrs__:
        assert f"| `{field.name}` | {str(field.default).lower()} |" in readme


def test_the_defaults_of_a_run_on_a_cpu_are_float32(tmp_path: Path) -> None:
    done = train_small(tmp_path, max_steps=1, precision="amp")
    assert done.tree()["facts"]["precision"].startswith("float32 (amp on a CPU")
