"""Ranks that wait for one that never comes: how long, what they say, and how a signal ends it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from simscaleai_devkit.support.ranks import TORCHRUN, free_port
from simscaleai_plugin_ddp.options import DDPOptions

JOIN = """
import os, sys
if os.environ["RANK"] == os.environ.get("ABSENT"):
    sys.exit(int(os.environ["STATUS"]))
from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import SimScaleError
from simscaleai_plugin_ddp.options import DDPOptions
from simscaleai_plugin_ddp.strategy import DDPStrategy
print("ready", flush=True)
limit = float(os.environ["LIMIT"]) or None
try:
    DDPStrategy(TrainConfig(backend="gloo", device="cpu"), DDPOptions(join_timeout_s=limit))
except SimScaleError as error:
    sys.exit(str(error))
"""

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _as_in_the_foreground() -> Iterator[None]:
    """A shell has its jobs in the background ignore Ctrl-C, and every child of them."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def start(rank: int, *, limit_s: float, port: str = "") -> subprocess.Popen[str]:
    """Start one of two ranks, without torchrun and without the other."""
    launch = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    launch |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port or free_port(), "LIMIT": limit_s}
    environment = {**os.environ, **{name: str(value) for name, value in launch.items()}}
    return subprocess.Popen(
        [sys.executable, "-c", JOIN], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_alone_says_who_is_missing(rank: int) -> None:
    process = start(rank, limit_s=3.0)
    wait_until_ready(process)
    started = time.monotonic()
    errors = process.communicate(timeout=60)[1]
    assert 2.5 < time.monotonic() - started < 10
    assert process.returncode == 1
    assert f"rank {1 - rank} did not start: rank {rank} waited 3 s for 2 ranks" in errors
    assert "frame #" not in errors, "torch's own stack"


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        errors = start(0, limit_s=3.0, port=port).communicate(timeout=60)[1]
    assert f"rank 0 cannot wait for the others at 127.0.0.1:{port}: " in errors


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait_at_once(rank: int, number: signal.Signals) -> None:
    process = start(rank, limit_s=60.0)
    wait_until_ready(process)
    time.sleep(0.5)
    process.send_signal(number)
    sent = time.monotonic()
    process.communicate(timeout=60)
    assert time.monotonic() - sent < 5
    assert process.returncode == -number


@pytest.mark.parametrize("absent", [0, 1])
@pytest.mark.parametrize("status", [0, 7])
def test_under_torchrun_nobody_waits_for_a_rank_that_has_ended(absent: int, status: int) -> None:
    environment = {"ABSENT": str(absent), "STATUS": str(status), "LIMIT": "4"}
    started = time.monotonic()
    done = subprocess.run(
        [*TORCHRUN, "--no-python", sys.executable, "-c", JOIN], env={**os.environ, **environment},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert time.monotonic() - started < 40
    if status == 0:  # torchrun ends the others only if one fails
        assert f"rank {absent} did not start" in done.stderr
    else:
        assert f"exitcode  : {status}" in done.stderr


def test_the_options_say_how_long() -> None:
    assert DDPOptions().join_timeout_s is None
    with pytest.raises(ValueError, match="join_timeout_s"):
        DDPOptions(join_timeout_s=0.0)
