"""What is shown while something takes long: the innermost of what goes on, a few times a second.

A thread of its own draws it: what is watched pays nothing, and need not report that it lives.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from simscaleai_core.cli import live, terminal

TICK_S = 0.2
"""Time between two drawings [s]."""
_PATIENCE_S = 0.4  # what is over sooner is not shown

Source = Callable[[int], str]
"""Returns the row as it is now, given the columns that it may take."""


class _Display:
    """The sources that are shown, the innermost last, and the thread that draws."""

    def __init__(self) -> None:
        self._sources: list[tuple[Source, float]] = []
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, source: Source) -> None:
        """Show a source above the others."""
        self._sources.append((source, time.monotonic()))
        if self._thread is None:
            self._is_over.clear()
            self._thread = threading.Thread(target=self._draw, name="live row", daemon=True)
            self._thread.start()

    def end(self, source: Source) -> None:
        """Show a source no more; it may have ended already."""
        self._sources = [pair for pair in self._sources if pair[0] is not source]
        if not self._sources:
            self.clear()

    def clear(self) -> None:
        """Show nothing more."""
        self._sources = []
        if self._thread is not None:
            self._is_over.set()
            self._thread.join()
            self._thread = None
        live.row.erase()

    def _draw(self) -> None:
        while not self._is_over.wait(TICK_S):
            now = time.monotonic()
            ready = [s for s, begun in self._sources if now - begun > _PATIENCE_S]
            if ready:
                live.row.draw(ready[-1](terminal.columns(error=True)))


_display = _Display()


def show(source: Source) -> None:
    """Show a source until it is hidden, if there is a terminal to draw on.

    Only one process draws; another one of the run sees to it that what it prints stands above.
    """
    if not live.is_possible():
        return
    if live.row.is_anothers:
        live.row.guard()
    elif not terminal.is_quiet():
        _display.begin(source)


def hide(source: Source) -> None:
    """Show a source no more."""
    _display.end(source)


def clear() -> None:
    """Show nothing more, whatever goes on."""
    _display.clear()


@contextmanager
def shown(source: Source) -> Iterator[None]:
    """Show a source while the body runs, if there is a terminal to draw on."""
    show(source)
    try:
        yield
    finally:
        hide(source)
