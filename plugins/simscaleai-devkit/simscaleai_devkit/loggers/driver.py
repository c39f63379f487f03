"""Driving a logger for checks of it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simscaleai_core.errors import SimScaleError
from simscaleai_devkit.checks import NotApplicable
from simscaleai_devkit.loggers.search import rows_in
from simscaleai_devkit.subject import Subject

_LATE_S = 3.0  # a helper process may still be writing
Rows = Mapping[str, Sequence[tuple[int, float]]]
"""What was logged: name to (step, value) in order."""
FACTS: dict[str, Any] = {"policy": "Tiny", "device": "cpu", "plugins": {"a": "b 1.0"}, "n": 3}
"""Facts of a run that loggers are started with."""
UNUSUAL_VALUES: dict[str, Any] = {
    "nan": math.nan,
    "inf": math.inf,
    "tensor": torch.tensor(2.5),
    "numpy": np.float32(0.5),
    "flag": True,
    "../../name": 1.0,
    "object": object(),
    "text": "many",
    "tensors": torch.zeros(3),
    "none": None,
}
"""Numbers of every kind, and four values that are no numbers, by name."""


@contextmanager
def started_logger(
    subject: Subject, *, folder: Path | None = None, step: int = 0, status: str = "done"
) -> Iterator[Any]:
    """Build a logger, start it for the body and close it.

    Args:
        subject: The logger under test.
        folder: Checkpoint directory; the check's folder if None.
        step: Step at which the run begins [steps].
        status: Status that the logger is closed with.

    Yields:
        The logger.

    Raises:
        NotApplicable: If it cannot start.
    """
    logger = subject.build(subject.config(folder))
    try:
        logger.start(FACTS, step)
    except SimScaleError as error:
        raise NotApplicable(f"it cannot start: {error}") from error
    try:
        yield logger
    except BaseException:
        close_quietly(logger)
        raise
    logger.close(status)


def log(logger: Any, metrics: dict[str, float], step: int) -> None:
    """Hand a row to the logger."""
    logger.log(metrics, step)


def make_call(logger: Any, name: str) -> None:
    """Call a method of the logger by name, with sound arguments."""
    arguments: dict[str, tuple[Any, ...]] = {
        "start": (FACTS, 0),
        "log": ({"loss": 1.0}, 1),
        "close": ("done",),
    }
    getattr(logger, name)(*arguments[name])


def call_out_of_order(logger: Any) -> None:
    """Log and close before the start; then close twice, and log after the end."""
    logger.log({"a": 1.0}, 1)
    logger.close("done")
    logger.start({}, 0)
    logger.close("failed")
    logger.close("failed")
    logger.log({"a": 1.0}, 2)


def close_quietly(logger: Any) -> None:
    """Close the logger, whatever it raises."""
    with suppress(Exception):  # a failure that came before is being reported
        logger.close("failed")


def rows_of(
    subject: Subject, sent: Rows, folder: Path | None = None, *, dropped: Rows | None = None
) -> Rows:
    """Read back what was logged, by the suite's own reader or by a search in what was written.

    Args:
        subject: The logger under test.
        sent: What was logged and is to be there; a search looks for nothing else.
        folder: Checkpoint directory; the check's folder if None.
        dropped: What was logged before a resume and is not to be there.

    Returns:
        What is there.
    """
    folder = folder or subject.folder
    with suppress(NotApplicable):
        rows: Rows = subject.suite.read_back(folder)
        return rows
    _require_readable(subject)
    return _searched(folder, sent, dropped or {})


def _searched(folder: Path, sent: Rows, dropped: Rows) -> Rows:
    """Return which rows are there, waiting a moment for those that were sent."""
    rows, void = (
        [(name, step, value) for name, curve in table.items() for step, value in curve]
        for table in (sent, dropped)
    )
    until = time.monotonic() + _LATE_S
    while not set(rows) <= set(there := rows_in(folder, rows, void)) and time.monotonic() < until:
        time.sleep(0.1)
    found: dict[str, list[tuple[int, float]]] = {}
    for name, step, value in there:
        found.setdefault(name, []).append((step, value))
    return {name: sorted(curve) for name, curve in found.items()}


def _require_readable(subject: Subject) -> None:
    """Skip the check unless a search finds all that was logged in a run that ended well.

    Raises:
        NotApplicable: If something is not found.
    """
    folder = subject.folder / "readable"
    sent = {"loss": [(1, 0.71934), (2, 0.28471), (3, 0.94816)]}
    with started_logger(subject, folder=folder) as logger:
        for step, value in sent["loss"]:
            log(logger, {"loss": value}, step)
    reason = "values are not checked: the suite has no read_back(folder)"
    if not any(path.is_file() for path in folder.rglob("*")):
        raise NotApplicable(f"{reason}, and it writes no file")
    if _searched(folder, sent, {}) != sent:
        raise NotApplicable(f"{reason}, and no files hold them all as text or as floats")
