"""What is wrong with a hook, a provider or a plugin's own record is seen by the type checkers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from shutil import which
from typing import get_args

import pytest

from simscaleai_core.plugin import KINDS, Kind

HEAD = """
from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from simscaleai_core import hookspecs
from simscaleai_core.checkpoint.manifest import CheckpointInfo
from simscaleai_core.contracts import Batch, StateDict
from simscaleai_core.plugin import (
    ExtensionSpec, LoggerSpec, ModelSpec, PluginInfo, hookimpl, hookspec, provides,
)
from simscaleai_core.run.state import Run
"""
SOUND = '''
PLUGIN = PluginInfo(summary="sound", selects={"model": "mine", "extension": "ear"})


@hookspecs.simscale_register_models
def models() -> Iterator[ModelSpec]:
    yield ModelSpec(name="mine", target="a.b:C")


extensions = hookspecs.simscale_register_extensions(
    provides(ExtensionSpec(name="ear", target="a.b:Ear"))
)
simscale_register_loggers = provides(LoggerSpec(name="log", target="a.b:Log"))


@hookimpl
def simscale_register_datasets() -> list[Any]:
    return []


@hookspecs.simscale_migrate_checkpoint
def migrate(component: str, version: str, tree: StateDict) -> StateDict:
    return tree


@hookspec
def gripper_on_grasp(run: Run, force_newton: float) -> None:
    """Called on every rank when the gripper closes."""


class Ear:
    @hookspecs.simscale_on_run_setup
    def setup(self, run: Run) -> None: ...
    @hookspecs.simscale_on_run_start
    def start(self) -> None: ...
    @hookspecs.simscale_transform_batch
    def transform(self, batch: Batch) -> dict[str, Any]:
        return dict(batch)
    @hookspecs.simscale_on_grads_ready
    def ready(self, run: Run) -> bool:
        return run.step > 3
    @hookspecs.simscale_on_step_end
    def step_end(self, run: Run, out: Mapping[str, Any]) -> None:
        run.fire(gripper_on_grasp, run, force_newton=3.0)
        run.fire(gripper_on_grasp, run=run, force_newton=3)
    @hookspecs.simscale_on_metrics
    def metrics(self, metrics: dict[str, float]) -> None: ...
    @hookspecs.simscale_eval_context
    def context(self, run: Run) -> AbstractContextManager[Any]:
        return nullcontext()
    @hookspecs.simscale_on_eval_end
    def eval_end(self, name: str, results: Mapping[str, float]) -> None: ...
    @hookspecs.simscale_on_checkpoint_saved
    def saved(self, run: Run, info: CheckpointInfo) -> None: ...
    @hookspecs.simscale_on_run_exception
    def exception(self, run: Run) -> None: ...
    @hookspecs.simscale_on_run_end
    def end(self, status: str) -> None: ...
    @gripper_on_grasp
    def grasp(self, run: Run, force_newton: float) -> None: ...
    @hookimpl
    def simscale_on_step_end(self) -> None: ...


def call(ear: Ear, run: Run) -> None:
    ear.setup(run)
    ear.step_end(run, {})
    ear.end("done")
    ear.exception(run)
'''
PLANTED = {
    "a misspelt event": """
class Ear:
    @hookspecs.simscale_on_step_ends  # wrong
    def hear(self, run: Run, out: Mapping[str, Any]) -> None: ...
""",
    "a misspelt argument": """
class Ear:
    @hookspecs.simscale_on_step_end  # wrong
    def hear(self, run: Run, output: Mapping[str, Any]) -> None: ...
""",
    "a misspelt argument that others are omitted beside": """
class Ear:
    @hookspecs.simscale_on_step_end  # wrong
    def hear(self, output: Mapping[str, Any]) -> None: ...
    @hookspecs.simscale_on_run_setup  # wrong
    def prepare(self, rum: Run) -> None: ...
""",
    "an argument of another type": """
class Ear:
    @hookspecs.simscale_on_metrics  # wrong
    def hear(self, run: Run, metrics: dict[str, int]) -> None: ...
""",
    "another answer": """
class Ear:
    @hookspecs.simscale_transform_batch  # wrong
    def hear(self, run: Run, batch: Batch) -> None: ...
    @hookspecs.simscale_on_grads_ready  # wrong
    def ready(self) -> float: ...  # type: ignore[empty-body]
""",
    "a provider of another record": """
@hookspecs.simscale_register_models  # wrong
def models() -> Iterator[LoggerSpec]:
    yield LoggerSpec(name="mine", target="a.b:C")
loggers = hookspecs.simscale_register_loggers(provides(ModelSpec(name="m", target="a:b")))  # wrong
""",
    "an unknown hook of the run": """
def act(run: Run) -> None:
    run.hook.gripper_on_grisp(run=run)  # wrong
""",
    "an argument of a plugin's own hook": """
@hookspec
def gripper_on_grasp(run: Run, force_newton: float) -> None: ...
def act(run: Run) -> None:
    run.fire(gripper_on_grasp, run, force=3.0)  # wrong
class Ear:
    @gripper_on_grasp  # wrong
    def hear(self, run: Run, force_newton: str) -> None: ...
""",
    "an unknown kind in selects": """
PLUGIN = PluginInfo(summary="wrong", selects={"modle": "mine"})  # wrong
""",
    "a misspelt provider": """
@hookspecs.simscale_register_model  # wrong
def models() -> Iterator[ModelSpec]:
    yield ModelSpec(name="mine", target="a.b:C")
""",
}


def _write(folder: Path) -> dict[str, set[int]]:
    """Write every file and return the lines that are wrong in each."""
    wrong: dict[str, set[int]] = {}
    for what, body in {"sound": SOUND, **PLANTED}.items():
        name = f"{what.replace(' ', '_').replace(chr(39), '')}.py"
        (folder / name).write_text(HEAD + body)
        lines = enumerate((HEAD + body).splitlines(), start=1)
        wrong[name] = {number for number, line in lines if line.endswith("# wrong")}
    return wrong


@pytest.mark.slow
def test_mypy_sees_every_planted_error_and_nothing_else(tmp_path: Path) -> None:
    wrong = _write(tmp_path)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", *wrong]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    found: dict[str, set[int]] = {name: set() for name in wrong}
    for line in done.stdout.splitlines():
        if ": error: " in line:
            name, number = line.split(":")[:2]
            found[name].add(int(number))
    assert found == wrong, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.skipif(which("pyright") is None, reason="pyright is not installed")
def test_pyright_sees_every_planted_error_and_nothing_else(tmp_path: Path) -> None:
    wrong = _write(tmp_path)
    command = ["pyright", "--outputjson", "--pythonpath", sys.executable, *wrong]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    found: dict[str, set[int]] = {name: set() for name in wrong}
    for said in json.loads(done.stdout)["generalDiagnostics"]:
        if said["severity"] == "error":
            found[Path(said["file"]).name].add(said["range"]["start"]["line"] + 1)
    assert found == wrong, done.stdout + done.stderr


def test_the_kinds_that_a_plugin_may_select_are_those_that_there_are() -> None:
    assert get_args(Kind) == tuple(KINDS)
