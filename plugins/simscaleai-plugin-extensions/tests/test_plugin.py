"""The declarations, their options and their documentation; and all extensions at once."""

from __future__ import annotations

import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs
import pytest
from simscaleai_devkit.support.policies import TiedPolicy
from simscaleai_devkit.support.process import modules_loaded_by
from simscaleai_devkit.support.runs import FinishedRun, train_small
from simscaleai_devkit.support.trees import tree_differences
from simscaleai_plugin_extensions import plugin

from simscaleai_core.cli.app import run
from simscaleai_core.errors import ConfigError
from simscaleai_core.host.registry import load_checkpoint

ROOT = Path(__file__).parents[1]
SPECS = list(plugin.simscale_register_extensions())
NAMES = [spec.name for spec in SPECS]


def train(folder: Path, *extensions: str, **given: Any) -> FinishedRun:
    """Train a policy with buffers and a tied weight, with these extensions."""
    return train_small(folder, extensions=extensions, **{"policy": TiedPolicy, **given})


def resolve(target: str | None) -> Any:
    module, _, name = str(target).partition(":")
    return getattr(import_module(module), name)


def test_the_declarations_lead_to_the_extensions() -> None:
    six = ["ema", "early-stopping", "best-k", "throughput", "profiler", "freeze"]
    assert [*six, "compile"] == NAMES
    assert plugin.PLUGIN.selects == {}
    for spec in SPECS:
        assert isinstance(resolve(spec.target), type)
        assert attrs.has(resolve(spec.options))


def test_the_entry_point_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    entry = project["entry-points"]["simscaleai.plugins"]["extensions"]
    assert import_module(entry) is plugin


def test_light_modules_load_no_torch() -> None:
    code = "import simscaleai_plugin_extensions.plugin, simscaleai_plugin_extensions.options"
    assert "torch" not in modules_loaded_by(code)


@pytest.mark.parametrize("spec", SPECS, ids=NAMES)
def test_every_option_is_in_the_readme(spec: Any) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition(f"## `{spec.name}`")[2].partition("\n## ")[0]
    for field in attrs.fields(resolve(spec.options)):
        default = "none" if field.default in {None, ()} else str(field.default)
        default = default.lower() if isinstance(field.default, bool) else default
        assert f"| `{field.name}` | {default} |" in section


@pytest.mark.parametrize(
    ("name", "given"),
    [("ema", {"decay": 1.0}), ("early-stopping", {"patience": 0}), ("best-k", {"k": 0}),
     ("best-k", {"mode": "small"}), ("profiler", {"count": 0}), ("freeze", {"patterns": "a"}),
     ("throughput", {"memry": False})],
)  # fmt: skip
def test_options_out_of_range_are_refused(tmp_path: Path, name: str, given: Any) -> None:
    with pytest.raises(ConfigError, match=f"\\$.{name}"):
        train(tmp_path, name, options={name: given}, eval_every=2)


ALL: dict[str, Any] = {
    "options": {
        "ema": {"decay": 0.8},
        "early-stopping": {"patience": 9},
        "best-k": {"k": 2},
        "profiler": {"start": 2, "count": 2},
        "freeze": {"patterns": ["encoder.*"]},
    },
    "eval_every": 2,
    "held_out": True,
}


@pytest.mark.slow
def test_all_of_them_together_resume_exactly(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", *NAMES, save_every=1, **ALL)
    assert {"ema", "early-stopping", "best-k"} <= set(whole.tree()["states"])
    assert len(list((tmp_path / "whole/best_k").glob("*.pt"))) == 2
    assert len(list((tmp_path / "whole/profile").glob("*.json"))) == 1
    for k in (1, 4, 7):
        found = train(tmp_path / str(k), *NAMES, resume_from=str(whole.step(k)), **ALL)
        assert not tree_differences(found.tree(), whole.tree())


def test_the_command_line_takes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "train", "--extension", "ema", "--ema.decay", "0.9", "--extension", "early-stopping",
        "--early-stopping.patience", "7", "--max-steps", "4", "--eval-every", "2", "--device",
        "cpu", "--checkpoint-dir", str(tmp_path), "--extension", "freeze", "--freeze.patterns",
        "*.bias", "--loggers", "jsonl",
    ]  # fmt: skip
    assert run(arguments) == 0, capsys.readouterr().err
    assert {"ema", "early-stopping"} <= set(load_checkpoint(tmp_path / "final.pt")["states"])
