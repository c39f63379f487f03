"""Threads that wait leave the processors to others, and ``--threads`` says how many compute."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

STARTS = (
    (sys.executable, "-m", "simscaleai_core"),
    (str(Path(sys.executable).with_name("simscale")),),
)
SHOW = (  # what libgomp has read, in the words of OpenMP: it prints them when it is loaded
    "train", "--max-steps", "2", "--device", "cpu", "--checkpoint-dir", "c", "--threads", "1",
)  # fmt: skip


def _started(start: tuple[str, ...], folder: Path, **given: str) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP", "GOMP"))}
    done = subprocess.run(
        [*start, *SHOW],
        cwd=folder,
        env={**environment, "OMP_DISPLAY_ENV": "VERBOSE", **given},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("start", STARTS, ids=["module", "simscale"])
def test_threads_wait_without_computing(start: tuple[str, ...], tmp_path: Path) -> None:
    said = _started(start, tmp_path)
    assert "GOMP_SPINCOUNT = '0'" in said  # 300,000 turns if nothing is set
    assert "threads: 1" in said


@pytest.mark.slow
def test_what_the_user_has_set_stays(tmp_path: Path) -> None:
    assert "OMP_WAIT_POLICY = 'ACTIVE'" in _started(STARTS[0], tmp_path, OMP_WAIT_POLICY="ACTIVE")
