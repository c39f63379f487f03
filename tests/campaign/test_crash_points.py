"""A process that dies at any file operation of a save loses nothing that was reported as saved."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from file_operations import Fault, watch
from forked_runs import KILLED, finish, run
from run_comparison import run_differences
from small_runs import CASES, DIRECTORY, Bench, Case, collected, report, sample

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200), pytest.mark.usefixtures("warm")]

PARTS = 3
"""Tests that share the operations of one case and rank, so that they can run side by side."""
LEAVES_WITHIN_S = 10.0
"""How soon a rank ends whose neighbour died [s]."""


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize(
    ("case", "rank"),
    [pytest.param(case, r, id=f"{case.name}-rank{r}") for case in CASES for r in range(case.ranks)],
)
def test_killed_at_every_file_operation(
    case: Case,
    rank: int,
    part: int,
    benches: Callable[[Case], Bench],
    tmp_path: Path,
    scale: float,
    campaign: Callable[[str], Any],
) -> None:
    bench, problems = benches(case), []
    tally = campaign(f"kills at file operations, {case.backend} on {case.ranks} rank(s)")
    operations = bench.operations(rank)[part::PARTS]
    for where, number, operation in sample(operations, scale, (case.name, rank, part)):
        tally["tried"] += 1
        with collected(problems, f"{case.name}: rank {rank} at {where} {number}: {operation}"):
            folder = bench.fresh(tmp_path / f"{where}-{number}")
            _kill_and_resume(bench, folder, Fault(where=where, number=number), rank, tally)
            shutil.rmtree(folder)
    assert not problems, report(problems)


def _kill_and_resume(bench: Bench, folder: Path, fault: Fault, rank: int, tally: Any) -> None:
    case = bench.case
    ended = run(
        folder, *case.command, ranks=case.ranks, within_s=LEAVES_WITHIN_S,
        prepare=watch(DIRECTORY, fault, on_rank=rank),
    )  # fmt: skip
    assert ended[rank].status == KILLED, ended[rank].output
    newest = bench.newest_acknowledged(folder)
    bench.assert_loads(folder, newest)
    tally["with something saved before"] += newest is not None
    if newest is None and case.situation == "afresh":
        return  # the earlier run is whole; to continue it, its own seed would be needed
    finish(folder, *case.resumed, ranks=case.ranks)
    differences = run_differences(folder, bench.whole)
    assert not differences, "\n".join(differences[:10])
    tally["resumed bit-exact"] += 1
