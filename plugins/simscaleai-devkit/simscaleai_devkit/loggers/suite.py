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
    sent = {"train/loss": [(1, 0.5), (2, 0.25), (7, -3.0)], "eval/success_rate": [(7, 1.0)]}
    with started_logger(subject) as logger:
        for step in (1, 2, 7):
            log(logger, {n: dict(v)[step] for n, v in sent.items() if step in dict(v)}, step)
    found = rows_of(subject)
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
    with started_logger(subject, status="failed") as logger:
        for step in range(1, 7):
            log(logger, {"loss": float(step)}, step)
    with started_logger(subject, step=4) as logger:
        for step in (5, 6):
            log(logger, {"loss": 10.0 * step}, step)
    found = [(s, round(v, 3)) for s, v in rows_of(subject).get("loss", ())]
    expected = [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0), (5, 50.0), (6, 60.0)]
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
        folder = subject.folder / status
        with started_logger(subject, folder=folder, status=status) as logger:
            log(logger, {"loss": float(number)}, 3)
        found = rows_of(subject, folder).get("loss", ())
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
    one, two = (subject.config(subject.folder / name) for name in ("one", "two"))
    first, second = subject.build(one), subject.build(two)
    remedy = "Keep the state on the instance."
    try:
        with must_work("two loggers in one process", expected="both to work", remedy=remedy):
            first.start(FACTS, 0)
            second.start(FACTS, 0)
            log(first, {"loss": 1.0}, 1)
            log(second, {"loss": 2.0}, 1)
            log(first, {"loss": 3.0}, 2)
    finally:
        close_quietly(second)
        close_quietly(first)
    found = [
        [round(v, 3) for _, v in rows_of(subject, subject.folder / n).get("loss", ())]
        for n in ("one", "two")
    ]
    expect(
        found == [[1.0, 3.0], [2.0]],
        "values of two loggers in one process",
        expected=[[1.0, 3.0], [2.0]],
        found=found,
        remedy=remedy,
    )


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
    """Checks of a logger. Give it `read_back` to have the values themselves checked."""

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
