"""Runs whose parameters are sharded over ranks, killed at random moments and inside saves."""

from __future__ import annotations

import importlib
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import forked_runs
import pytest
from file_operations import SAVING, Fault, operations_of, watch
from forked_runs import HANG_S, KILLED, assert_nothing_left, finish, output_path, run, start
from run_comparison import DIRECTORY, read, run_differences
from simscaleai_devkit.support.trees import tree_differences
from small_runs import RESUME, collected, report

pytest.importorskip("simscaleai_plugin_fsdp")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

RANKS = 2
KILLS = 10
"""At random moments, and as many inside saves; for all backends together."""
TERMINATED = 4
"""Runs of which one rank is told to end."""
LEAVES_WITHIN_S = 15.0
"""How soon a rank ends whose neighbour was killed, and all if one is told to end [s]."""
BACKENDS = ("dcp", "pt", "safetensors")
SHARDED = (
    *("train", "--model", "act", "--device", "cpu", "--dataset-name", "dummy"),
    *("--dummy.num-samples", 80, "--act.hidden-dim", 18, "--act.num-heads", 2),
    *("--act.latent-dim", 4, "--act.dropout", 0.1, "--save-every", 3, "--eval-every", 6),
    *("--log-every", 3, "--warmup-steps", 2, "--batch-size", 8, "--loggers", "jsonl"),
    *("--max-steps", 15, "--keep-last", 2, "--lr", 0.01, "--extensions", "ema"),
    *("--strategy", "fsdp", "--backend", "gloo", "--checkpoint-backend"),
)


@pytest.fixture(scope="module", autouse=True)
def _warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Everything that the runs import, imported here once."""
    importlib.import_module("simscaleai_plugin_fsdp.strategy")
    commands = [(RANKS, (*SHARDED, backend)) for backend in BACKENDS]
    with forked_runs.warm(commands, tmp_path_factory.mktemp("warm")):
        yield


@pytest.fixture(scope="module")
def wholes(_warm: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, float]]:
    """By backend: the folder of an uninterrupted run, and the seconds that it took."""
    found = {}
    for backend in BACKENDS:
        folder, started = tmp_path_factory.mktemp(backend) / "whole", time.monotonic()
        finish(folder, *SHARDED, backend, ranks=RANKS)
        found[backend] = (folder, time.monotonic() - started)
    return found


def test_killed_at_random_moments(
    wholes: dict[str, tuple[Path, float]], tmp_path: Path, campaign: Callable[[str], Any]
) -> None:
    tally, rng, problems = campaign("kills of sharded runs"), random.Random(14), list[str]()
    for number in range(KILLS):
        backend = BACKENDS[number % len(BACKENDS)]
        whole, takes_s = wholes[backend]
        tally["tried"] += 1
        with collected(problems, f"{number}: {backend}"):
            folder = tmp_path / str(number)
            running = start(folder, *SHARDED, backend, ranks=RANKS)
            time.sleep(rng.uniform(0.3, 0.95) * takes_s)
            have_met = "training from step" in output_path(folder).read_text()
            running.kill(*rng.choice([(), (0,), (1,)]))
            if not have_met:  # ranks that wait for one another to come are the launcher's to end
                running.terminate()
            ended = running.ended(within_s=LEAVES_WITHIN_S)
            tally["before the first step"] += not have_met
            _assert_one_word([one.output for one in ended if one.status != KILLED])
            assert_nothing_left(running.pids)
            _finish_and_compare(folder, whole, backend)
    assert not problems, report(problems)
    assert tally["before the first step"] < KILLS // 2


def test_killed_inside_saves(
    wholes: dict[str, tuple[Path, float]], tmp_path: Path, campaign: Callable[[str], Any]
) -> None:
    tally, rng, problems = campaign("kills in sharded saves"), random.Random(15), list[str]()
    for number in range(KILLS):
        backend = BACKENDS[number % len(BACKENDS)]
        rank = rng.randrange(RANKS) if backend == "dcp" else 0  # of the others rank 0 writes alone
        watched = tmp_path / f"{backend}-{rank}"
        if not watched.exists():
            run(watched, *SHARDED, backend, ranks=RANKS, prepare=watch(DIRECTORY))
        saving = [o for o in operations_of(watched, rank) if o.where == SAVING]
        fault = Fault(where=SAVING, number=rng.randrange(len(saving)))
        tally["tried"] += 1
        with collected(problems, f"{number}: {backend}, rank {rank} at {fault.number}"):
            folder = tmp_path / str(number)
            ended = run(
                folder, *SHARDED, backend, ranks=RANKS, within_s=HANG_S,
                prepare=watch(DIRECTORY, fault, on_rank=rank),
            )  # fmt: skip
            assert ended[rank].status == KILLED, ended[rank].output
            _assert_one_word([one.output for one in ended if one.status != KILLED])
            _finish_and_compare(folder, wholes[backend][0], backend)
    assert not problems, report(problems)


def test_terminated_on_one_rank(
    wholes: dict[str, tuple[Path, float]], tmp_path: Path, campaign: Callable[[str], Any]
) -> None:
    """Both ranks stop at one step, with a checkpoint, wherever the one is: in a save too."""
    tally, rng, problems = campaign("sharded runs terminated"), random.Random(16), list[str]()
    whole, takes_s = wholes["dcp"]
    for number in range(TERMINATED):
        tally["tried"] += 1
        with collected(problems, f"{number}"):
            folder = tmp_path / str(number)
            running = start(folder, *SHARDED, "dcp", ranks=RANKS)
            deadline = time.monotonic() + HANG_S
            while "training from step" not in output_path(folder).read_text():
                assert time.monotonic() < deadline, "it does not begin"
                time.sleep(0.05)
            time.sleep(rng.uniform(0.0, 0.25) * takes_s)
            os.kill(running.pids[rng.randrange(RANKS)], signal.SIGTERM)
            ended = running.ended(within_s=LEAVES_WITHIN_S)
            tally["at their end already"] += all(one.status == 0 for one in ended)
            assert {one.status for one in ended} <= {0, -signal.SIGTERM, 128 + signal.SIGTERM}
            finish(folder, *SHARDED, "dcp", *RESUME, ranks=RANKS)
            last, wanted = (read(f / DIRECTORY / "final.dcp") for f in (folder, whole))
            assert not tree_differences(last, wanted)
    assert not problems, report(problems)


def _assert_one_word(outputs: Sequence[str]) -> None:
    """A rank whose neighbour was killed says so, without a traceback."""
    for output in outputs:
        assert "Traceback" not in output, output


def _finish_and_compare(folder: Path, whole: Path, backend: str) -> None:
    finish(folder, *SHARDED, backend, *RESUME, ranks=RANKS)
    differences = run_differences(folder, whole)
    assert not differences, "\n".join(differences[:10])
    shutil.rmtree(folder)
