"""Ranks that are stopped or stuck, and ranks that only take long."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from simscaleai_devkit.support.ranks import free_port

WORKER = Path(__file__).parent / "worker.py"
LIMIT_S = 6.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def two_ranks(directory: Path, *arguments: object) -> list[tuple[int, str, float]]:
    """Run two ranks without torchrun; return status, standard error and end [s] of each."""
    launch = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    command = [sys.executable, str(WORKER), "--dir", str(directory / "run")]
    command += ["--hang", str(LIMIT_S), *map(str, arguments)]
    paths = [directory / f"rank{rank}.txt" for rank in (0, 1)]
    ranks = []
    for rank, path in enumerate(paths):
        environment = {**os.environ, **launch, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        with path.open("w") as output:
            ranks.append(subprocess.Popen(command, env=environment, stderr=output))
    ended: dict[int, float] = {}
    started = time.monotonic()
    while len(ended) < 2 and time.monotonic() < started + 120:
        for rank, process in enumerate(ranks):
            if process.poll() is not None:
                ended.setdefault(rank, time.monotonic())
        time.sleep(0.05)
    for process in ranks:
        process.kill()
        process.wait()
    assert len(ended) == 2, [path.read_text() for path in paths]
    return [(p.returncode, paths[r].read_text(), ended[r]) for r, p in enumerate(ranks)]


@pytest.mark.parametrize("stopped", [0, 1])
def test_a_stopped_rank_ends_the_run(tmp_path: Path, stopped: int) -> None:
    """Rank 0 keeps the store here: when it is stopped, nobody is left to ask."""
    found = two_ranks(tmp_path, "--fault", f"stopped-{stopped}", "--fault-step", 12)
    status, text, _ = found[1 - stopped]
    assert status == 5, text
    assert found[stopped][0] == -9, "whoever notices it ends it: it hears nothing else"
    assert f"rank {1 - stopped}, thread MainThread:" in text
    if stopped == 1:
        assert "the run hangs: rank 1 has not answered for" in text
        assert "(last heard of at step " in text
        assert "; the others are at step 12)" in text
    else:
        assert "the run hangs: rank 0 has not answered for" in text
        assert "Rank 1 stands at step 12, " in text


def test_a_stuck_rank_ends_the_run_with_the_stacks_of_all(tmp_path: Path) -> None:
    found = two_ranks(tmp_path, "--fault", "locked", "--fault-step", 12)
    assert [status for status, _, _ in found] == [5, 5]
    text = found[0][1]
    assert "the run hangs: rank 1 has done nothing for" in text
    assert "(step 12, train step, worker.py:" in text
    assert "rank 0: step 12, train step, fp32.py:" in text
    assert "waits for other ranks" in text
    assert "rank 0, thread MainThread:" in text
    stack = text.partition("rank 1, thread MainThread:\n")[2].splitlines()
    assert "worker.py" in stack[0]
    assert "simscale_on_step_end" in stack[0]
    assert "the run hangs: rank 1 has done nothing for" in found[1][1]


@pytest.mark.parametrize("kind", ["busy", "child"])
def test_what_takes_three_times_the_limit_is_no_hang(tmp_path: Path, kind: str) -> None:
    found = two_ranks(tmp_path, "--fault", kind, "--fault-step", 12)
    assert [status for status, _, _ in found] == [0, 0], found
    assert "hangs" not in found[0][1] + found[1][1]
    assert (tmp_path / "run" / "final.pt").is_file()


def test_a_watch_ends_with_its_run(tmp_path: Path) -> None:
    """Two runs in one process; the worker itself looks for threads that are left."""
    found = two_ranks(tmp_path, "--times", 2)
    assert [status for status, _, _ in found] == [0, 0], found


JOIN_AND_DIE = """
import os, signal, sys
from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import SimScaleError
from simscaleai_plugin_ddp import joining, strategy
from simscaleai_plugin_ddp.options import DDPOptions
if os.environ["RANK"] == "1":
    joining.meet(DDPOptions())
    os.kill(os.getpid(), signal.SIGKILL)
strategy.DDPStrategy(TrainConfig(backend="gloo", device="cpu"), DDPOptions())
"""


def test_a_rank_killed_between_meeting_and_joining_is_noticed() -> None:
    """Torch itself waits for its address, for as long as the time-out of the group."""
    launch = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", JOIN_AND_DIE], text=True, stderr=subprocess.PIPE,
            env={**os.environ, **launch, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in (0, 1)
    ]  # fmt: skip
    ranks[1].wait(timeout=60)
    started = time.monotonic()
    text = ranks[0].communicate(timeout=60)[1]
    ranks[1].communicate()
    assert time.monotonic() - started < 20
    assert ranks[0].returncode == 5
    assert "rank 1 has been gone for" in text
