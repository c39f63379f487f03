"""The command line in processes of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("simscaleai_plugin_bc")
pytestmark = pytest.mark.slow


def _command(folder: Path, *arguments: str) -> list[str]:
    return [
        sys.executable, "-m", "simscaleai_core", "train", "--model", "bc", "--logger", "wandb",
        "--warmup-steps", "2", "--log-every", "5", "--checkpoint-dir", str(folder), *arguments,
    ]  # fmt: skip


def test_train_without_a_network(
    nowhere: str, tmp_path: Path, recorded: Callable[..., Any], logged: Callable[..., Any]
) -> None:
    pytest.importorskip("simscaleai_plugin_tensorboard")
    environment = {
        **os.environ, "WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": nowhere,
        "WANDB_SILENT": "false",
    }  # fmt: skip
    flags = ("--logger", "tensorboard", "--max-steps", "20", "--json", "--wandb.tags", "a")
    begin = time.monotonic()
    done = subprocess.run(
        _command(tmp_path / "run", *flags), env=environment, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - begin < 60
    assert json.loads(done.stdout)["global_step"] == 20
    assert done.stderr.count("cannot be reached") == 1
    assert recorded(tmp_path)[0].rows == logged(tmp_path / "run")
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))


def test_a_killed_run_keeps_its_rows_and_continues_under_its_id(
    tmp_path: Path, recorded: Callable[..., Any], logged: Callable[..., Any]
) -> None:
    environment = {**os.environ, "WANDB_MODE": "offline"}
    folder = tmp_path / "run"
    flags = ("--save-every", "10", "--eval-every", "0")
    with subprocess.Popen(
        _command(folder, "--max-steps", "1000000", *flags), env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        _wait(lambda: len(list(folder.glob("step_*.json"))) > 2)
        time.sleep(2)  # the client writes once a second
        process.kill()
    before = logged(folder)
    first = recorded(tmp_path)[0]
    done = max(int(p.stem.split("_")[1]) for p in folder.glob("step_*.json"))
    flags = (*flags, "--resume", "auto", "--allow-drift", "--max-steps", str(done + 20))
    subprocess.run(_command(folder, *flags), env=environment, check=True, timeout=120)
    after = logged(folder)
    second = recorded(tmp_path)[1]
    assert first.run_id == second.run_id
    assert first.rows and first.rows == {step: before[step] for step in first.rows}
    assert second.rows == {s: row for s, row in after.items() if s > done}


def _wait(ready: Callable[[], bool], timeout_s: float = 60.0) -> None:
    end = time.monotonic() + timeout_s
    while not ready():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.1)
