"""A preempted run comes back by itself: in a new process, on another node, in a new container."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

TRAIN = (
    *("train", "--device", "cpu", "--save-every", "20"),
    *("--eval-every", "0", "--log-every", "20", "--warmup-steps", "2", "--checkpoint-dir", "run"),
)


@pytest.fixture
def running(tmp_path: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A run that has written a checkpoint and goes on."""
    command = [sys.executable, "-m", "simscaleai_core", *TRAIN, "--max-steps", "3000000"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment) as process:
        deadline = time.monotonic() + 120
        while not list((tmp_path / "run").glob("step_*.json")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        yield process
        process.kill()


def resume(
    folder: Path, environment: Mapping[str, str], steps: int
) -> subprocess.CompletedProcess[str]:
    arguments = [*TRAIN, "--resume", "auto", "--allow-drift", "--max-steps", str(steps)]
    return subprocess.run(
        [sys.executable, "-m", "simscaleai_core", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_a_living_run_keeps_its_directory(
    running: subprocess.Popen[bytes], tmp_path: Path, environment: Mapping[str, str]
) -> None:
    refused = resume(tmp_path, environment, 40)
    assert refused.returncode == 4
    assert f"in use by another run: process {running.pid} on " in refused.stderr
    assert "Traceback" not in refused.stderr
    assert running.poll() is None


@pytest.mark.parametrize("holder", ["another host", "a living process of this host"])
def test_a_killed_run_is_continued_wherever_it_ran(
    running: subprocess.Popen[bytes],
    tmp_path: Path,
    environment: Mapping[str, str],
    holder: str,
) -> None:
    """What the killed run says of itself decides nothing: its lock ended with it."""
    running.send_signal(signal.SIGKILL)
    running.wait()
    said = {"pid": os.getpid(), "host": "node-7"} if holder == "another host" else None
    noted = tmp_path / "run" / ".lock.json"
    assert noted.exists()  # it had no time to take it away
    table = json.loads(noted.read_text())
    noted.write_text(json.dumps(said or {**table, "pid": os.getpid()}))
    last = max(int(p.stem[5:]) for p in (tmp_path / "run").glob("step_*.json"))
    continued = resume(tmp_path, environment, last + 20)
    assert continued.returncode == 0, continued.stderr
    assert f"at step {last}" in continued.stderr
    assert not list((tmp_path / "run").glob(".lock*"))
