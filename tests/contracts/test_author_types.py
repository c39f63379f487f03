"""A plugin author's mistakes are type errors: every planted one is found, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PLANTED = '''
"""Sound where there is no mark; each marked line is wrong."""

from collections.abc import Iterator, Mapping

from attrs import frozen
from torch import nn

from simscaleai_core import TrainConfig, Trainer
from simscaleai_core.contracts import DataSpec, EvalFunction, Mean
from simscaleai_core.contracts import CheckpointBackend, Logger
from simscaleai_core.plugin import LoggerSpec, ModelSpec, PluginInfo, hookimpl

PLUGIN = PluginInfo(summary="sound", selects={"model": "mine"})
WRONG_1 = PluginInfo(summary=3)  # arg-type
WRONG_2 = PluginInfo(sumary="x")  # call-arg
WRONG_3 = ModelSpec(name="x")  # call-arg
WRONG_4 = ModelSpec(name="x", target=None)  # arg-type
WRONG_5 = LoggerSpec(name="x", target="a:b", suffixes=(".h5",))  # call-arg
WRONG_6 = TrainConfig(max_step=3)  # call-arg
WRONG_7 = TrainConfig(max_steps="3")  # arg-type
WRONG_8 = DataSpec(observations={"x": 3}, action_dim=2)  # dict-item
WRONG_9 = Mean("a", 1)  # arg-type


@frozen(kw_only=True)
class Options:
    width: int = 8


Options(width="8")  # arg-type
Options(widht=8)  # call-arg


@hookimpl
def simscale_register_models() -> Iterator[ModelSpec]:
    yield ModelSpec(name="mine", target="a.b:C")


class SoundLogger:
    def start(self, facts: Mapping[str, object], step: int) -> None: ...
    def log(self, metrics: Mapping[str, float], step: int) -> None: ...
    def close(self, status: str) -> None: ...


class LoggerWithoutClose:
    def start(self, facts: Mapping[str, object], step: int) -> None: ...
    def log(self, metrics: Mapping[str, float], step: int) -> None: ...


class WrongEval:
    def __call__(self, policy: nn.Module) -> float:
        return 1.0


sound: Logger = SoundLogger()
unsound: Logger = LoggerWithoutClose()  # assignment
measure: EvalFunction = WrongEval()  # assignment
backend: CheckpointBackend = SoundLogger()  # assignment
Trainer(3, [], TrainConfig())  # arg-type
Trainer(nn.Linear(1, 1), [], TrainConfig()).train().keys().nothing  # attr-defined
'''


def test_every_planted_error_is_found_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text(PLANTED)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "planted.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    found = {
        (int(line.split(":")[1]), line.rpartition("[")[2].rstrip("]"))
        for line in done.stdout.splitlines()
        if ": error: " in line
    }
    wanted = {
        (number, line.rpartition("# ")[2])
        for number, line in enumerate(PLANTED.splitlines(), start=1)
        if "  # " in line
    }
    assert found == wanted, done.stdout + done.stderr
