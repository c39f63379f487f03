"""Ctrl-C is one line and status 130, whenever it comes, and also when it comes twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from simscaleai_core.cli import interrupts

pytestmark = pytest.mark.slow

MAIN = (sys.executable, "-m", "simscaleai_core")
LINE = "error: interrupted\n"
PATIENCE_S = 60.0

STUBBORN = """\
import time
from pathlib import Path
Path("loading").touch()
for _ in range(600):
    try:
        time.sleep(0.1)
    except BaseException:  # what a careless plugin does
        pass
"""
TIDY = """\
import sys, time
from simscaleai_core.cli import interrupts
interrupts.leave_at_once()
interrupts.raise_first()
try:
    print("ready", flush=True)
    time.sleep(60)
finally:
    print("tidy", flush=True)
    time.sleep(60 if sys.argv[1:] else 0)
    sys.exit(interrupts.tell())
"""


@pytest.fixture(autouse=True)
def _as_in_the_foreground() -> Iterator[None]:
    """A shell has its jobs in the background ignore Ctrl-C, and every child of them."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def _start(folder: Path, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def _wait_for(path: Path) -> None:
    until = time.monotonic() + PATIENCE_S
    while not path.exists():
        assert time.monotonic() < until, f"no {path.name}"
        time.sleep(0.01)


@pytest.mark.parametrize("times", [1, 2])
def test_while_a_plugin_loads(tmp_path: Path, times: int) -> None:
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    child = _start(tmp_path, *MAIN, "train", "--plugin", "stubborn.py", "--max-steps", "1")
    _wait_for(tmp_path / "loading")
    for _ in range(times):
        child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=PATIENCE_S)
    assert (child.returncode, err) == (interrupts.STATUS, LINE)


def test_during_the_imports_of_a_command(tmp_path: Path) -> None:
    """Torch's C++ start aborts the process if an exception comes through it."""
    for delay_s in (0.0, 0.1, 0.3, 0.6):
        child = _start(tmp_path, *MAIN, "train", "--max-steps", "1", "--device", "cpu")
        maps = Path(f"/proc/{child.pid}/maps")
        until = time.monotonic() + PATIENCE_S
        while "libtorch" not in maps.read_text() and time.monotonic() < until:
            time.sleep(0.005)
        time.sleep(delay_s)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=PATIENCE_S)
        assert child.returncode in (
            interrupts.STATUS,
            -signal.SIGINT,
            0,
        )  # at its very end, or late
        assert "Traceback" not in err
        assert err.endswith(LINE) or "training done" in err


@pytest.mark.parametrize("twice", [False, True])
def test_a_command_puts_things_in_order_unless_it_comes_again(tmp_path: Path, twice: bool) -> None:
    child = _start(tmp_path, sys.executable, "-c", TIDY, *["slowly"] * twice)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGINT)
    assert child.stdout.readline() == "tidy\n"
    if twice:
        child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=PATIENCE_S)
    assert (child.returncode, err) == (interrupts.STATUS, LINE)


def test_where_it_is_ignored_it_stays_ignored(tmp_path: Path) -> None:
    """As after ``nohup``, or in the background of a script."""
    code = (
        "import os, signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from simscaleai_core.cli import interrupts\n"
        "interrupts.leave_at_once()\ninterrupts.raise_first()\n"
        "os.kill(os.getpid(), signal.SIGINT)\nprint('still here')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "still here\n"


def test_a_rank_says_who_it_is(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from simscaleai_core.cli.interrupts import tell; tell(); tell()"],
        env={**os.environ, "RANK": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == "error (rank 1): interrupted\n"
