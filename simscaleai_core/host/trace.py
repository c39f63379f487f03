"""A record of the listeners that each hook calls, and how long they take; off unless asked for.

``SIMSCALE_TRACE_HOOKS=1`` logs it, ``SIMSCALE_TRACE_HOOKS=FILE`` appends it to a file: one line
per call, ``step<TAB>hook<TAB>listener<TAB>microseconds``; a hook without a listener has ``-``.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

logger = logging.getLogger("simscaleai")

VARIABLE = "SIMSCALE_TRACE_HOOKS"
NO_LISTENER = "-"
"""Stands for the listener of a hook that has none."""


def is_tracing() -> bool:
    """Return whether the environment asks for a record."""
    return os.environ.get(VARIABLE, "") not in {"", "0"}


def timed(hook: str, listener: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that records each of its calls, if the environment asks for that."""
    if not is_tracing():
        return function

    def call(*values: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*values)
        finally:
            micros = 1e6 * (time.perf_counter() - started)
            step = getattr(values[0], "step", NO_LISTENER) if values else NO_LISTENER
            _write(f"{step}\t{hook}\t{listener}\t{micros:.1f}\n")

    return call


def _write(line: str) -> None:
    place = os.environ[VARIABLE]
    if place == "1":
        logger.info(line.rstrip())
        return
    with Path(place).open("a", encoding="utf-8") as file:
        file.write(line)
