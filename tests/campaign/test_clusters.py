"""Nodes and ranks that die or stop: how long the others stand, and whether the run comes back."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked_runs
import pytest
import torch
from simscaleai_devkit.support.trees import tree_differences
from small_runs import TRAIN

sys.path.append(str(Path(__file__).parents[1] / "integration"))  # after this folder's own modules

import agents

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

Tally = Counter[str]

ENDED_S = 20.0
"""Within which time all of a run has ended when a part of it was killed, on a busy machine [s]."""
HANG_S = 8.0
PARTS = ("model_state_dict", "optimizer_state_dict", "scheduler_state_dict", "rng", "counters")
COMMAND = (*agents.SHORT, "--ddp.hang-timeout-s", HANG_S, "--faults.pace-s", 0.02)


def environment() -> dict[str, str]:
    """What agents and ranks get: nothing of pytest's, and one thread."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SIMSCALE_", "PYTEST_"))}
    return {**kept, "OMP_NUM_THREADS": "1"}


def final(folder: Path) -> dict[str, Any]:
    tree: dict[str, Any] = torch.load(folder / "run" / "final.pt", weights_only=True)
    return {name: tree[name] for name in PARTS}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The end of the run on two nodes that nothing happens to."""
    folder = tmp_path_factory.mktemp("whole")
    with agents.cluster(folder, environment()) as run:
        for node in ("a", "b"):
            run.start(node, *COMMAND)
        assert run.finish() == {"a": 0, "b": 0}, run.output("a") + run.output("b")
    return final(folder)


def disturb(run: agents.Cluster, what: str, rng: random.Random) -> float:
    """Run until something dies or stops, and until everything has ended; return that time [s]."""
    step, rank = rng.randrange(12, 36), rng.randrange(4)
    kind = what.removeprefix("rank-")
    fault = ("--faults.kind", kind, "--faults.at", step, "--faults.rank", rank)
    for node in ("a", "b"):
        run.start(node, *COMMAND, *(fault if what.startswith("rank-") else ()))
    if what == "agent-kill":
        saved = run.folder / "run" / "step_10.json"
        agents.seconds_until(saved.exists, within_s=120, what="the first checkpoint")
        victim = rng.choice(("a", "b"))
        started, left = time.monotonic(), run.kill(victim)
        assert len(left) == 2, run.output(victim)
        agents.seconds_until_gone(left, within_s=ENDED_S)
        del run.agents[victim]
    else:
        noted = run.folder / "run.fault"
        agents.seconds_until(noted.exists, within_s=120, what="the fault")
        started = time.monotonic()
    statuses = run.finish(within_s=60)
    assert all(statuses.values()), statuses
    return time.monotonic() - started


@pytest.mark.parametrize("what", ["agent-kill", "rank-kill", "rank-stop"])
def test_what_two_nodes_lose_comes_back(
    tmp_path: Path,
    whole: dict[str, Any],
    what: str,
    scaled: Callable[[int], int],
    campaign: Callable[[str], Tally],
) -> None:
    tally = campaign(f"two nodes with two ranks each, {what}")
    for number in range(scaled(10)):
        folder = tmp_path / str(number)
        with agents.cluster(folder, environment()) as run:
            took_s = disturb(run, what, random.Random(f"{what}-{number}"))
            said = run.output("a") + run.output("b")
        limit_s = ENDED_S + (HANG_S if what == "rank-stop" else 0.0)
        assert took_s < limit_s, said
        if what == "rank-stop":
            assert "the run hangs: rank " in said
            assert "thread MainThread:" in said
        with agents.cluster(folder, environment(), job="again") as run:
            for node in ("a", "b"):
                run.start(node, *COMMAND, "--resume", "auto")
            assert run.finish() == {"a": 0, "b": 0}, run.output("a") + run.output("b")
        differing = tree_differences(final(folder), whole)
        assert not differing, differing
        tally["tried"] += 1
        tally["tenths of a second in all until everything had ended"] += round(10 * took_s)


@pytest.mark.parametrize("backend", ["pt", "dcp"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_one_of_two_ranks_ends_and_the_other_within_seconds(
    tmp_path: Path,
    warm: None,
    backend: str,
    number: signal.Signals,
    scaled: Callable[[int], int],
    campaign: Callable[[str], Tally],
) -> None:
    """Without an agent that would end the other; at random moments, saves among them."""
    tally = campaign(f"one of two ranks gets {number.name}, {backend}")
    longest_s = 0.0
    for attempt in range(scaled(40)):
        rng, folder = random.Random(f"{backend}-{number}-{attempt}"), tmp_path / str(attempt)
        command = (*TRAIN, "--max-steps", 100_000, "--backend", "gloo", "--loggers", "jsonl")
        run = forked_runs.start(folder, *command, "--checkpoint-backend", backend, ranks=2)
        shown = forked_runs.output_path(folder)
        agents.seconds_until(
            lambda shown=shown: "training from" in shown.read_text(), within_s=60, what="training"
        )
        time.sleep(rng.uniform(0.0, 1.5))
        victim, started = rng.randrange(2), time.monotonic()
        os.kill(run.pids[victim], number)
        ended = run.ended(within_s=ENDED_S)
        longest_s = max(longest_s, time.monotonic() - started)
        other = ended[1 - victim]
        if number == signal.SIGTERM:
            assert [one.status for one in ended] == [143, 143], [one.output for one in ended]
        else:
            assert other.status == 5, other.output
            assert "error" in other.output
        tally["tried"] += 1
    tally["tenths of a second at most until the other had ended"] += round(10 * longest_s)
