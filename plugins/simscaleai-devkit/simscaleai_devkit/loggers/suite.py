"""Checks of loggers: values, order of calls, runs; and the suite with all checks of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from simscaleai_core.errors import SimScaleError
from simscaleai_devkit.checks import NotApplicable, checks_in, expect, expect_none, must_work
from simscaleai_devkit.loggers.driver import (
    FACTS,
    Rows,
    close_quietly,
    log,
    make_call,
    rows_of,
    started_logger,
)
from simscaleai_devkit.loggers.side_effects import SIDE_EFFECT_CHECKS
from simscaleai_devkit.subject import Subject
from simscaleai_devkit.suite import Suite
from simscaleai_devkit.support.listeners import Recorder
from simscaleai_devkit.support.log import collected_warnings
from simscaleai_devkit.support.trees import expect_equal
from simscaleai_devkit.support.writes import watched_writes

_NUMBERS: dict[str, Any] = {
    "float": 1.5,
    "int": 2,
    "bool": True,
    "numpy": np.float32(0.5),
    "numpy_int": np.int64(3),
    "tensor": torch.tensor(2.5),
    "nan": math.nan,
    "inf": -math.inf,
    "huge": 1e300,
    "tiny": 5e-324,
}


def check_values_read_back(subject: Subject) -> None:
    """What was logged is found again under its name and step."""
    sent = {
        "train/loss": [(1, 0.53217), (2, 0.27431), (7, -3.16283)],
        "eval/success_rate": [(7, 0.83719)],
    }
    with started_logger(subject) as logger:
        for step in (1, 2, 7):
            log(logger, {n: dict(v)[step] for n, v in sent.items() if step in dict(v)}, step)
    found = rows_of(subject, sent)
    for name, values in sent.items():
        expect(
            [(s, round(v, 5)) for s, v in found.get(name, ())] == values,
            f"the metric {name!r} after it was logged",
            expected=values,
            found=list(found.get(name, ())),
            remedy="Write every value under its own name and step.",
        )


def check_resume_drops_later_rows(subject: Subject) -> None:
    """Continued at step 4, rows after it, left by a killed run, are replaced."""
    before = [(step, round(0.61803 + step, 5)) for step in range(1, 7)]
    after = [(step, round(0.41421 + 10 * step, 5)) for step in (5, 6)]
    for rows, step, status in ((before, 0, "failed"), (after, 4, "done")):
        with started_logger(subject, step=step, status=status) as logger:
            for at, value in rows:
                log(logger, {"loss": value}, at)
    expected = [*before[:4], *after]
    read = rows_of(subject, {"loss": expected}, dropped={"loss": before[4:]})
    found = [(s, round(v, 5)) for s, v in read.get("loss", ())]
    expect(
        found == expected,
        "rows after a run was continued at step 4",
        expected=expected,
        found=found,
        remedy="In `start`, drop rows whose step is larger than the one given.",
    )


def check_rows_survive_a_failure(subject: Subject) -> None:
    """Rows are there after a run that failed: closing with any status writes what is buffered."""
    for number, status in enumerate(("done", "stopped", "failed")):
        folder, value = subject.folder / status, 0.57721 + number
        with started_logger(subject, folder=folder, status=status) as logger:
            log(logger, {"loss": value}, 3)
        found = rows_of(subject, {"loss": [(3, value)]}, folder).get("loss", ())
        expect(
            [s for s, _ in found] == [3],
            f"rows after close({status!r})",
            expected="the row of step 3",
            found=list(found) or "none",
            remedy="Flush in `close`, whatever the status.",
        )


def check_takes_every_number(subject: Subject) -> None:
    """Python, NumPy and torch numbers, infinite and undefined ones are logged or left out."""
    with started_logger(subject) as logger:
        for name, value in _NUMBERS.items():
            fact, expected = f"logging {value!r}", "to be logged or left out"
            remedy = "Convert with float(), and guard against what is no number."
            with must_work(fact, expected=expected, remedy=remedy):
                logger.log({name: value, "loss": 1.0}, 1)


def check_metrics_are_not_changed(subject: Subject) -> None:
    """The metrics that it is handed are the same afterwards: other loggers get them too."""
    metrics = {"train/loss": 0.5, "nan": math.nan, "step_time": 2.0}
    before = repr(metrics)
    with started_logger(subject) as logger:
        log(logger, metrics, 1)
    expect(
        repr(metrics) == before,
        "the metrics after `log`",
        expected=before,
        found=repr(metrics),
        remedy="Copy the mapping before changing it.",
    )


def check_nothing_before_start(subject: Subject) -> None:
    """Making the logger writes nothing: a run may end before it starts."""
    subject.build()
    left = sorted(p.name for p in subject.folder.rglob("*"))
    expect_none(left, "files written before `start`", remedy="Open files in `start`.")


def check_calls_in_any_order(subject: Subject) -> None:
    """Closing twice, without a start, and logging after the end do nothing."""
    for name, calls in _ORDERS.items():
        logger = subject.build(subject.config(subject.folder / name.replace(" ", "_")))
        remedy = "Guard `log` and `close` with what `start` opened."
        try:
            with must_work(name, expected="nothing to happen", remedy=remedy):
                for call in calls:
                    make_call(logger, call)
        finally:
            close_quietly(logger)


_ORDERS: dict[str, tuple[str, ...]] = {
    "closing without a start": ("close",),
    "closing twice": ("start", "log", "close", "close"),
    "logging after the end": ("start", "close", "log"),
    "logging before the start": ("log", "close"),
}


def check_two_at_once(subject: Subject) -> None:
    """Two loggers in one process do not disturb each other: nothing is kept in globals."""
    curves = {"one": [(1, 1.20205), (2, 3.35988)], "two": [(1, 2.68545)]}
    loggers = {n: subject.build(subject.config(subject.folder / n)) for n in curves}
    remedy = "Keep the state on the instance."
    try:
        with must_work("two loggers in one process", expected="both to work", remedy=remedy):
            for logger in loggers.values():
                logger.start(FACTS, 0)
            for step in (1, 2):
                for name, curve in curves.items():
                    if step in dict(curve):
                        log(loggers[name], {"loss": dict(curve)[step]}, step)
    finally:
        for name in reversed(curves):
            close_quietly(loggers[name])
    found = {
        name: [(s, round(v, 5)) for s, v in rows.get("loss", ())]
        for name, curve in curves.items()
        for rows in (rows_of(subject, {"loss": curve}, subject.folder / name),)
    }
    fact = "values of two loggers in one process"
    expect(found == curves, fact, expected=curves, found=found, remedy=remedy)


def check_temporary_names_differ(subject: Subject) -> None:
    """Two loggers with folders of their own share no temporary file: two runs may log at once."""
    moved = []
    for name in ("one", "two"):
        with (
            watched_writes() as written,
            started_logger(subject, folder=subject.folder / name) as logger,
        ):
            log(logger, {"loss": 1.0}, 1)
        moved.append(written.moved)
    names = sorted(path.name for path in moved[0] & moved[1])
    fact = "temporary files that loggers of two runs share"
    remedy = "Write it beside the file whose place it takes, or take a name from tempfile."
    expect_none(names, fact, remedy=remedy)


def check_works_in_a_run(subject: Subject) -> None:
    """A run with this logger alone calls it without a failure and trains as one without it."""
    without, with_logger = Recorder(), Recorder()
    subject.train("without", {}, listeners=[without])
    with (
        collected_warnings(containing=subject.component.id) as failures,
        subject.skip_without_settings("it cannot start", (SimScaleError,)),
    ):
        fields = {"loggers": (subject.component.id,)}
        subject.train("with", fields, listeners=[with_logger], held_out=True)
    expect_none(failures, "failures in a run with this logger", remedy="See the other checks.")
    fact, expected = "the losses of a run with this logger", "those of a run without it"
    remedy = "Do not draw from the global random generators or touch the policy."
    expect_equal(with_logger.losses, without.losses, fact, expected=expected, remedy=remedy)


class LoggerSuite(Suite):
    """Checks of a logger. Give it `read_back` to have the values checked with name and step.

    Without it they are looked for in the files that it writes, whatever their format.
    """

    kind: ClassVar[str] = "logger"
    checks = (*checks_in(globals()), *SIDE_EFFECT_CHECKS)

    @classmethod
    def read_back(cls, folder: Path) -> Rows:
        """Read what was logged with this checkpoint directory: name to (step, value) in order.

        Raises:
            NotApplicable: Unless a subclass defines it.
        """
        del folder
        raise NotApplicable("values are not checked: the suite has no read_back(folder)")
