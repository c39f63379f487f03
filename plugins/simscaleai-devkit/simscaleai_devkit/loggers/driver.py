"""Driving a logger for checks of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simscaleai_core.errors import SimScaleError
from simscaleai_devkit.checks import NotApplicable
from simscaleai_devkit.subject import Subject

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


def rows_of(subject: Subject, folder: Path | None = None) -> Rows:
    """Read back what was logged."""
    rows: Rows = subject.suite.read_back(folder or subject.folder)
    return rows
