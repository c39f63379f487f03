"""What the command line prints: tables for people, one JSON object for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol


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
    """Print rows as a table; plain aligned lines, never wrapped, where there is no terminal."""
    cells = [[str(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(cells, headers, title)
        return
    if headers:
        cells.insert(0, list(headers))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
    print_text("\n".join([*([title] if title else []), *(line.rstrip() for line in lines)]))


def _print_rich(cells: Sequence[Sequence[str]], headers: Sequence[str], title: str) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    heading = Text(title) if title else None
    table = Table(*headers, title=heading, show_header=bool(headers), box=SIMPLE_HEAD)
    for row in cells:
        table.add_row(*map(Text, row))
    Console(highlight=False, markup=False).print(table)


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
        from rich.console import Console
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
