"""A record of who hears which hook, and how long that takes; nothing of it runs unless asked for.

``SIMSCALE_TRACE_HOOKS=1`` writes it to standard error, ``SIMSCALE_TRACE_HOOKS=FILE`` appends it to
a file: one line per call, ``step<TAB>hook<TAB>listener<TAB>microseconds``; a hook that nobody
hears has the listener ``-``.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

VARIABLE = "SIMSCALE_TRACE_HOOKS"
NOBODY = "-"
"""Listener of a hook that nobody hears."""


def is_tracing() -> bool:
    """Return whether the environment asks for a record."""
    return os.environ.get(VARIABLE, "") not in {"", "0"}


def timed(hook: str, listener: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that also records each of its calls.

    Args:
        hook: Name of the hook.
        listener: Who hears it.
        function: The implementation; an event's gets the run first.

    Returns:
        `function` itself unless the environment asks for a record.
    """
    if not is_tracing():
        return function

    def call(*values: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*values)
        finally:
            micros = 1e6 * (time.perf_counter() - started)
            step = getattr(values[0], "step", NOBODY) if values else NOBODY
            _write(f"{step}\t{hook}\t{listener}\t{micros:.1f}\n")

    return call


def unheard(hook: str) -> Callable[..., Any]:
    """Return a listener that records that a hook was fired and nobody heard it.

    It changes nothing: of a run and a batch it returns the batch.
    """

    def call(*values: Any) -> Any:
        _write(f"{getattr(values[0], 'step', NOBODY)}\t{hook}\t{NOBODY}\t0.0\n")
        return values[1] if hook == "simscale_transform_batch" else None

    return call


def _write(line: str) -> None:
    place = os.environ[VARIABLE]
    if place == "1":
        sys.stderr.write(line)
        return
    with Path(place).open("a", encoding="utf-8") as file:
        file.write(line)
