"""Driving a logger for checks of it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simscaleai_core.errors import SimScaleError
from simscaleai_core.testing.checks import NotApplicable
from simscaleai_core.testing.subject import Subject

Rows = Mapping[str, Sequence[tuple[int, float]]]


FACTS: dict[str, Any] = {"policy": "Tiny", "device": "cpu", "plugins": {"a": "b 1.0"}, "n": 3}


class logging_to:  # noqa: N801 - a context, used as one
    """Start a logger for the body and close it."""

    def __init__(
        self, subject: Subject, *, folder: Path | None = None, step: int = 0, status: str = "done"
    ) -> None:
        self._logger = subject.build(subject.config(folder))
        self._step, self._status = step, status

    def __enter__(self) -> Any:
        try:
            self._logger.start(FACTS, self._step)
        except SimScaleError as error:
            raise NotApplicable(f"it cannot start: {error}") from error
        return self._logger

    def __exit__(self, kind: Any, *_: object) -> None:
        if kind is None:
            self._logger.close(self._status)
        else:
            close_quietly(self._logger)


def log(logger: Any, metrics: dict[str, float], step: int) -> None:
    """Hand a row to the logger."""
    logger.log(metrics, step)


def make_call(logger: Any, name: str) -> None:
    """Call a method of the logger by name, with sound arguments."""
    arguments: dict[str, tuple[Any, ...]] = {
        "start": (FACTS, 0), "log": ({"loss": 1.0}, 1), "close": ("done",),
    }  # fmt: skip
    getattr(logger, name)(*arguments[name])


def close_quietly(logger: Any) -> None:
    """Close the logger, whatever it raises."""
    with contextlib.suppress(Exception):  # tidying up after a failure that is being reported
        logger.close("failed")


def rows_of(subject: Subject, folder: Path | None = None) -> Rows:
    """Read back what was logged."""
    rows: Rows = subject.suite.read_back(folder or subject.folder)
    return rows


class watched:  # noqa: N801 - a context, used as one
    """Collect what the fence around loggers says."""

    def __init__(self, subject: Subject, failures: list[str]) -> None:
        import logging

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                if subject.component.id in record.getMessage():
                    failures.append(record.getMessage())

        self._handler = Handler(logging.WARNING)
        self._logger = logging.getLogger("simscaleai")

    def __enter__(self) -> None:
        self._logger.addHandler(self._handler)

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self._handler)
