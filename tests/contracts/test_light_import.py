"""Importing the core, asking for help and listing plugins stay light and quick."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

HEAVY = {"torch", "h5py", "mujoco", "gymnasium", "wandb", "tensorboard", "matplotlib", "PIL"}
HELP_BUDGET_S = 0.6  # processor time; the goal is 0.3
REPORT = "import json, sys; sys.stderr.write('MODULES' + json.dumps(sorted(sys.modules)))"


def _modules_after(code: str) -> tuple[set[str], str]:
    """Return the top-level modules that a fresh interpreter holds after running code."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{REPORT}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={k: v for k, v in os.environ.items() if not k.startswith("SIMSCALE_")},
    )
    assert done.returncode == 0, done.stderr
    names = json.loads(done.stderr.rpartition("MODULES")[2])
    return {name.partition(".")[0] for name in names}, done.stdout


def _run(*arguments: str) -> str:
    return f"from simscaleai_core.cli.app import run\nassert run({list(arguments)!r}) == 0"


def test_importing_the_core_loads_neither_torch_nor_pluggy() -> None:
    modules, _ = _modules_after("import simscaleai_core")
    assert "simscaleai_core" in modules
    assert not modules & (HEAVY | {"pluggy", "numpy", "attrs", "cyclopts"})


def test_the_check_notices_torch() -> None:
    """Negative control: a public name does bring torch."""
    modules, _ = _modules_after("from simscaleai_core import Trainer")
    assert "torch" in modules


def test_what_a_plugin_author_imports_is_light() -> None:
    modules, _ = _modules_after("import simscaleai_core.plugin")
    assert "pluggy" in modules
    assert not modules & (HEAVY | {"numpy", "cattrs", "cyclopts", "rich"})


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("--version",), ("plugins", "list"), ("plugins", "list", "--json"),
     ("hooks", "list"), ("checkpoint", "--help")],
    ids=" ".join,
)  # fmt: skip
def test_looking_around_loads_nothing_heavy(arguments: tuple[str, ...]) -> None:
    modules, out = _modules_after(_run(*arguments))
    assert out.strip()
    assert not modules & HEAVY


def test_listing_plugins_imports_no_plugin() -> None:
    modules, out = _modules_after(_run("plugins", "list"))
    assert "bc" in out
    assert not {m for m in modules if m.startswith("simscaleai_plugin_")}


def test_loading_every_plugin_loads_nothing_heavy() -> None:
    """A `plugin` module is light by contract: components are named by string."""
    modules, _ = _modules_after(_run("plugins", "doctor"))
    assert "simscaleai_plugin_bc" in modules
    assert not modules & HEAVY


def test_help_is_quick() -> None:
    code = _run("--help")
    used = []
    for _ in range(3):
        before = os.times()
        _modules_after(code)
        after = os.times()
        user = after.children_user - before.children_user
        used.append(user + after.children_system - before.children_system)
    assert min(used) < HELP_BUDGET_S
