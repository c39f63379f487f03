"""What the command line prints: tables for people, one JSON object for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table
from rich.text import Text

_PLAIN_WIDTH = 10_000  # columns; without a terminal nothing is wrapped


class Advance(Protocol):
    """Moves a progress display forward."""

    def __call__(self, count: int = 1) -> None:
        """Move it by `count` units."""
        ...


def print_json(payload: Any) -> None:
    """Print one JSON object to standard output and nothing else."""
    sys.stdout.write(json.dumps(payload, indent=2, default=str) + "\n")


def print_text(text: str) -> None:
    """Print lines as they are."""
    sys.stdout.write(text.rstrip() + "\n")


def print_table(
    rows: Iterable[Sequence[object]], *, headers: Sequence[str] = (), title: str = ""
) -> None:
    """Print rows as a table; plain aligned lines where there is no terminal."""
    wide = None if sys.stdout.isatty() else _PLAIN_WIDTH
    console = Console(highlight=False, markup=False, width=wide)
    table = Table(
        *headers, title=Text(title) if title else None, show_header=bool(headers), box=_box(console)
    )
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console.print(table)


def print_facts(facts: Mapping[str, object], *, title: str = "") -> None:
    """Print names and values, one per line."""
    print_table(list(facts.items()), title=title)


@contextmanager
def progress(description: str, total: int) -> Iterator[Advance]:
    """Show progress on standard error while the body runs.

    Args:
        description: What is counted, such as ``"recording episodes"``.
        total: Units of work.

    Yields:
        A function that moves the display forward; without a terminal it prints a plain line at
        every tenth of the work.
    """
    if sys.stderr.isatty():
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as display:
            task = display.add_task(description, total=total)
            yield lambda count=1: display.advance(task, count)
    else:
        yield _PlainProgress(description, total)


class _PlainProgress:
    """Progress as plain lines, one per tenth."""

    def __init__(self, description: str, total: int) -> None:
        self._description = description
        self._total = max(total, 1)
        self._done = 0

    def __call__(self, count: int = 1) -> None:
        before = 10 * self._done // self._total
        self._done += count
        if 10 * self._done // self._total > before:
            sys.stderr.write(f"{self._description}: {self._done}/{self._total}\n")
            sys.stderr.flush()


def _box(console: Console) -> Any:
    from rich import box

    return box.SIMPLE_HEAD if console.is_terminal else None
