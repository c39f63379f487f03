"""A disk that is full or broken at any file operation: nothing is lost, and one line says it."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from file_operations import ELSEWHERE, Fault, operations_of, watch
from forked_runs import finish, run
from run_comparison import DIRECTORY, run_differences
from small_runs import CASES, Bench, Case, collected, report, sample

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.usefixtures("warm")]

PARTS = 2
NOT_WRITTEN = 4
"""Documented exit status: the last state could not be written, or nothing can be."""
LOST = 5
"""Status of a rank that has lost the one whose disk it was."""
FAULTS = {
    "full": (errno.ENOSPC, True, 1.0),
    "full for a moment": (errno.ENOSPC, False, 0.3),
    "broken": (errno.EIO, False, 1.0),
}
"""Number of the error, whether it lasts, and at which share of the operations it is tried."""
DISTURBED = [case for case in CASES if case.situation != "afresh"]

_PLACE = re.compile(r"could not (write|remove) \S|logger '\w+' failed")


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize(
    ("case", "rank"),
    [
        pytest.param(case, r, id=f"{case.name}-rank{r}")
        for case in DISTURBED
        for r in range(case.ranks)
    ],
)
def test_an_error_at_every_file_operation(
    case: Case,
    rank: int,
    kind: str,
    part: int,
    benches: Callable[[Case], Bench],
    tmp_path: Path,
    scale: float,
    campaign: Callable[[str], Any],
) -> None:
    bench, (number, lasts, share) = benches(case), FAULTS[kind]
    share /= case.ranks  # twice the processes, and longer by their meeting
    tally = campaign(f"disk {kind} at file operations")
    operations, problems = bench.operations(rank)[part::PARTS], []
    for where, place, operation in sample(operations, scale * share, (case.name, kind, rank, part)):
        at = f"{case.name}: disk {kind} on rank {rank} at {where} {place}: {operation}"
        tally["tried"] += 1
        with collected(problems, at):
            fault = Fault(where=where, number=place, error=number, lasts=lasts)
            folder = bench.fresh(tmp_path / f"{where}-{place}")
            _disturb(bench, folder, fault, rank, tally)
            shutil.rmtree(folder)
    assert not problems, report(problems)


def _disturb(bench: Bench, folder: Path, fault: Fault, rank: int, tally: Any) -> None:
    case = bench.case
    ended = run(
        folder, *case.command, ranks=case.ranks, within_s=30,
        prepare=watch(DIRECTORY, fault, on_rank=rank),
    )  # fmt: skip
    shown = "\n".join(one.output for one in ended)
    assert "Traceback" not in shown, shown
    assert ended[rank].status in {0, NOT_WRITTEN}, shown
    assert {one.status for one in ended} <= {0, NOT_WRITTEN, LOST}, shown
    status = max(one.status for one in ended)
    bench.assert_loads(folder, bench.newest_acknowledged(folder))
    differences = run_differences(folder, bench.whole)
    if status == 0 and all(line.startswith("files: .") for line in differences):
        tally["without effect"] += 1  # at most what the next start removes is left
        if not differences:
            return
    else:
        reasons = [os.strerror(fault.error or 0), os.strerror(errno.EFBIG)]  # a limit on its size
        lines = [line for line in shown.splitlines() if any(r in line for r in reasons)]
        assert lines, f"no line names the reason\n{shown}"
        assert any(_PLACE.search(line) for line in lines), f"no line names the place\n{shown}"
    _assert_resumes(bench, folder, tally)
    tally["with the last state unwritten"] += status == NOT_WRITTEN


def _assert_resumes(bench: Bench, folder: Path, tally: Any) -> None:
    """With the disk in order again, the run ends as if nothing had happened."""
    case = bench.case
    finish(folder, *case.resumed, ranks=case.ranks)
    bench.assert_best_is_right(folder)
    if case.situation == "worse":
        tally["ended with the right best"] += 1  # one that could not be written may be another
        return
    differences = [
        line for line in run_differences(folder, bench.whole) if "metrics.jsonl" not in line
    ]
    assert not differences, "\n".join(differences[:10])
    tally["ended bit-exact"] += 1


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
def test_before_the_first_step(
    error: int, benches: Callable[[Case], Bench], tmp_path: Path, campaign: Callable[[str], Any]
) -> None:
    """Whatever is opened or written before training: one line and a status, at once."""
    bench = benches(CASES[0])
    tally = campaign("disk errors before the first step")
    operations = [o for o in bench.operations(0) if o[0] == ELSEWHERE]
    first_row = next(n for _, n, o in operations if (o.kind, o.path) == ("write", "metrics.jsonl"))
    problems: list[str] = []
    for _, number, operation in operations[:first_row]:
        tally["tried"] += 1
        with collected(problems, f"{os.strerror(error)} at {number}: {operation}"):
            fault = Fault(where=ELSEWHERE, number=number, error=error, lasts=True)
            command, prepare = bench.case.command, watch(DIRECTORY, fault)
            (ended,) = run(tmp_path / str(number), *command, prepare=prepare)
            assert "Traceback" not in ended.output, ended.output
            assert ended.status == NOT_WRITTEN, f"status {ended.status}\n{ended.output}"
            last = ended.output.splitlines()[-1]
            assert last.startswith("error: "), ended.output
            assert os.strerror(error) in last and DIRECTORY in last, ended.output
    assert not problems, report(problems)


@pytest.mark.parametrize("lasts", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("logger", ["jsonl", "tensorboard"])
def test_a_logger_that_cannot_write_stops_nothing(
    logger: str,
    error: int,
    lasts: bool,
    benches: Callable[[Case], Bench],
    tmp_path: Path,
    scale: float,
    campaign: Callable[[str], Any],
) -> None:
    bench = benches(CASES[0])
    tally = campaign("disk errors in loggers' files")
    command = [logger if a == "jsonl" else a for a in bench.case.command]
    folder = tmp_path / "whole"
    (ended,) = run(folder, *command, prepare=watch(DIRECTORY))
    assert ended.status == 0, ended.output
    names = ("metrics.jsonl", "tensorboard", "events.out")
    counted = list(enumerate(o for o in operations_of(folder) if o.where == ELSEWHERE))
    mine = [n for n, o in counted if any(name in o.path for name in names)]
    assert mine, counted
    problems: list[str] = []
    for number in sample(mine, scale, (logger, error, lasts)):
        tally["tried"] += 1
        with collected(problems, f"{os.strerror(error)} at {counted[number]}"):
            fault = Fault(where=ELSEWHERE, number=number, error=error, lasts=lasts)
            (ended,) = run(tmp_path / str(number), *command, prepare=watch(DIRECTORY, fault))
            assert "Traceback" not in ended.output, ended.output
            assert ended.status in {0, NOT_WRITTEN}, f"status {ended.status}\n{ended.output}"
            assert os.strerror(error) in ended.output, ended.output
    assert not problems, report(problems)
