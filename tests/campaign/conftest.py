"""What the campaign's tests share: how much they try, and one line of counts for each subject.

`SIMSCALE_CAMPAIGN_SCALE` is the share of the full campaign that is tried; ``make campaign`` sets 1.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # the kit's modules, under --import-mode=importlib

import forked_runs
from small_runs import Bench, Case

DEFAULT_SCALE = 0.1
SCALE = float(os.environ.get("SIMSCALE_CAMPAIGN_SCALE", DEFAULT_SCALE))

Tally = Counter[str]
"""Counts of one subject by name; ``tried`` comes first in its line."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the campaign first: it forks, and a process that has rendered or computed has threads.

    A child has none of its parent's threads and waits for them for ever.
    """
    here = Path(__file__).parent
    items.sort(key=lambda item: here not in item.path.parents)


@pytest.fixture(scope="session")
def scale() -> float:
    """The share of the full campaign that is tried, in (0, 1]."""
    return SCALE


@pytest.fixture(scope="session")
def scaled() -> Callable[[int], int]:
    """Turn a number of tries of the full campaign into that of this run; at least one."""
    return lambda full: max(1, round(full * SCALE))


@pytest.fixture
def campaign(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Tally]]:
    """Give the counts of a subject: ``campaign("command lines")["tried"] += 1``.

    Counts of several tests with one subject are added; each subject is one line at the end.
    """
    tallies: dict[str, Tally] = {}
    yield lambda subject: tallies.setdefault(subject, Counter())
    for subject, tally in tallies.items():
        request.node.user_properties.append(("campaign", [subject, dict(tally)]))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print one line of counts for each subject."""
    totals: dict[str, Tally] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") != "teardown":
                continue
            for name, value in report.user_properties:
                if name == "campaign":
                    totals.setdefault(value[0], Counter()).update(value[1])
    for subject, tally in sorted(totals.items()):
        tried = tally.pop("tried", 0)
        rest = "".join(f", {count} {name}" for name, count in tally.items())
        terminalreporter.write_line(f"campaign: {subject}: {tried} tried{rest}")


@pytest.fixture(autouse=True)
def _nothing_leaks() -> Iterator[None]:
    """Compute with one thread; a test that leaves a variable of ours in the environment fails."""
    threads, before = torch.get_num_threads(), _ours()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    assert _ours() == before


def _ours() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("SIMSCALE_")}


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of six expert episodes with camera images of 16 pixels."""
    folder = tmp_path_factory.mktemp("recorded")
    command = ("record", "--env", "reach", "--episodes", 6, "--images", 16)
    forked_runs.finish(folder, *command, "--output", "reach.h5")
    return folder / "reach.h5"


@pytest.fixture(scope="session")
def warm(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Everything that runs import, imported here once for all forked children."""
    small = ("--max-steps", 4, "--warmup-steps", 2, "--batch-size", 4, "--device", "cpu")
    extensions = [f"--extensions={name}" for name in ("ema", "early-stopping", "best-k")]
    amp = ("--precision", "amp", "--amp.on-cpu")
    vla = (
        "--vla.size", "debug", "--dataset-name", "dummy", "--dummy.include-image",
        "--dummy.num-samples", 40,
    )  # fmt: skip
    commands = [
        (1, ("--model", "bc", *small, *extensions, *amp, "--loggers", "tensorboard")),
        (1, ("--model", "bc-rnn", *small, "--checkpoint-backend", "safetensors")),
        (1, ("--model", "act", *small, "--dataset", recorded)),
        (1, ("--model", "vla", *small, *vla)),
        (2, ("--model", "bc", *small, "--backend", "gloo", "--checkpoint-backend", "dcp")),
    ]
    folder = tmp_path_factory.mktemp("warm")
    with forked_runs.warm([(ranks, ("train", *rest)) for ranks, rest in commands], folder):
        yield


@pytest.fixture(scope="session")
def benches(warm: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], Bench]:
    """Give the bench of a case, made when it is first asked for."""
    made: dict[Case, Bench] = {}

    def bench(case: Case) -> Bench:
        if case not in made:
            made[case] = Bench(case, tmp_path_factory.mktemp(case.name))
        return made[case]

    return bench
