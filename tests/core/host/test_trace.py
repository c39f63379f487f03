"""What ``simscale hooks trace`` says is what was called."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from training_kit import Recorder, differences, read, train

from simscaleai_core.host.trace import VARIABLE

TRACE = [sys.executable, "-m", "simscaleai_core", "hooks", "trace"]


def lines_of(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text().splitlines()]


def test_every_call_is_recorded_with_its_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tmp_path / "trace"
    monkeypatch.setenv(VARIABLE, str(record))
    listener = Recorder()
    train(tmp_path / "run", listeners=(listener,), max_steps=6, log_every=2)
    called = [row for row in lines_of(record) if row[2] == "listener Recorder"]
    steps = [row[0] for row in called if row[1] == "simscale_on_step_end"]
    assert steps == ["1", "2", "3", "4", "5", "6"]
    windows = [row[0] for row in called if row[1] == "simscale_on_metrics"]
    assert windows == ["2", "4", "6"]
    assert called[0][1] == "simscale_on_run_setup"
    assert called[-1][1] == "simscale_on_run_end"
    unheard = [row for row in lines_of(record) if row[1:3] == ["simscale_transform_batch", "-"]]
    assert len(unheard) == 6


def test_a_traced_run_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path / "plain", max_steps=5)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "trace"))
    train(tmp_path / "traced", max_steps=5)
    plain, traced = read(tmp_path / "plain" / "final.pt"), read(tmp_path / "traced" / "final.pt")
    assert not differences(plain["model_state_dict"], traced["model_state_dict"])


@pytest.mark.slow
def test_the_command_adds_up(tmp_path: Path) -> None:
    command = ["train", "--max-steps", "4", "--num-workers", "0", "--extension", "throughput"]
    done = subprocess.run(
        [*TRACE, "--json", "--", *command], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["exit_status"] == 0 and found["command"] == command
    rows = {(r["hook"], r["listener"]): r for r in found["hooks"]}
    assert rows["simscale_on_grads_ready", "-"]["calls"] == 4
    assert rows["simscale_on_metrics", "throughput"]["calls"] == 1
    assert rows["simscale_register_models", "bc"]["calls"] == 1
    names = [r["hook"] for r in found["hooks"]]
    assert names.index("simscale_on_run_setup") < names.index("simscale_on_run_end")


@pytest.mark.slow
def test_the_status_of_the_command_comes_through_and_nothing_is_an_error(tmp_path: Path) -> None:
    failed = [*TRACE, "--", "train", "--model", "no-such-model"]
    assert subprocess.run(failed, cwd=tmp_path, capture_output=True, check=False).returncode == 2
    nothing = subprocess.run(TRACE, capture_output=True, text=True, check=False)
    assert nothing.returncode == 2 and "expected a command after '--'" in nothing.stderr
