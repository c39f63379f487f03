"""What the command line prints: tables for people, one JSON object for programs."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from simscaleai_core.cli import terminal
from simscaleai_core.cli.display import shown
from simscaleai_core.cli.live import is_possible

_MAX_LINES = 40
_MAX_COLUMNS = 2000
_LAST_COLUMNS = 400  # where a message says where, and what to do


class Advance(Protocol):
    """Moves a progress display forward."""

    def __call__(self, count: int = 1) -> None:
        """Move it by `count` units."""
        ...


class Screen:
    """Standard output, or standard error, as a stream for libraries that print by themselves."""

    def __init__(self, *, error: bool = False) -> None:
        self._is_error = error

    def write(self, text: str) -> None:
        """Write text; what commands a terminal is escaped."""
        terminal.write(text, error=self._is_error)

    def flush(self) -> None:
        """Do nothing: every text is written at once."""

    def isatty(self) -> bool:
        """Return whether a person reads it."""
        return sys.stderr.isatty() if self._is_error else terminal.results().isatty()


def print_json(payload: Any) -> None:
    """Print one JSON object to standard output and nothing else.

    A number that is not finite is null, which every JSON reader takes.
    """
    import json

    text = json.dumps(_plain(payload), indent=2, default=str, allow_nan=False)
    terminal.write(text.replace("\x7f", "\\u007f") + "\n")


def print_text(text: str) -> None:
    """Print lines without control characters; a narrow terminal wraps them between words."""
    width = terminal.columns()
    lines = [part for line in text.rstrip().split("\n") for part in _wrapped(line, width)]
    terminal.write("\n".join(lines) + "\n")


def be_quiet(on: bool) -> None:
    """Show no progress and no notes from now on, only results, warnings and errors."""
    terminal.be_quiet(on)


def print_note(message: str) -> None:
    """Print a message to standard error, where it disturbs no program that reads the output.

    Nothing if only results, warnings and errors are wanted.
    """
    if not terminal.is_quiet():
        print_warning(message)


def print_warning(message: str) -> None:
    """Print a message to standard error that is no mere note."""
    terminal.write(fitted(message) + "\n", error=True)


def print_fields(fields: Sequence[str]) -> None:
    """Print a note of several fields in a line; a narrow terminal gets more lines of them."""
    lines, width = [fields[0]], terminal.columns(error=True)
    for field in fields[1:]:
        if len(lines[-1]) + len(field) + 2 <= width:
            lines[-1] += f"  {field}"
        else:
            lines.append(f"  {field}")
    print_note("\n".join(lines))


def fitted(message: str) -> str:
    """Return a message that a person can read; the middle of what is too long is left out.

    On a terminal, lines that are wider are wrapped between words.
    """
    width = terminal.columns(error=True)
    lines = [part for line in message.split("\n") for part in _wrapped(line, width)]
    shown = [_fitted_line(line) for line in lines[:_MAX_LINES]]
    if len(lines) > _MAX_LINES:
        shown.append(f"... and {len(lines) - _MAX_LINES} more lines")
    return "\n".join(shown)


def print_table(
    rows: Iterable[Sequence[object]], *, headers: Sequence[str] = (), title: str = ""
) -> None:
    """Print rows as a table; plain aligned lines, never wrapped, where there is no terminal."""
    cells = [[terminal.escaped(str(cell)) for cell in row] for row in rows]
    headers, title = [terminal.escaped(h) for h in headers], terminal.escaped(title)
    if terminal.results().isatty():
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
    console = Console(highlight=False, markup=False)
    with console.capture() as drawn:
        console.print(table)
    terminal.write(drawn.get(), kept="\n\x1b")  # the cells are escaped; what is left is rich's


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
    if is_possible():
        from simscaleai_core.cli.bars import Count

        count = Count(description, total)
        with shown(count):
            yield count.advance
    else:
        yield _PlainProgress(description, total)


@contextmanager
def waiting(description: str) -> Iterator[None]:
    """Say on a terminal what goes on, and for how long, while the body runs."""
    from simscaleai_core.cli.bars import Wait

    with shown(Wait(description)):
        yield


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
            print_note(f"{self._description}: {self._done}/{self._total}")


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold, with null where a number is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def _wrapped(line: str, width: int) -> list[str]:
    """Return a line as several that fit, broken between words only."""
    if len(line) <= width:
        return [line]
    from textwrap import wrap

    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return wrap(
        line, width, subsequent_indent=indent, replace_whitespace=False, expand_tabs=False,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _fitted_line(line: str) -> str:
    excess = len(line) - _MAX_COLUMNS
    if excess <= 0:
        return line
    first = _MAX_COLUMNS - _LAST_COLUMNS
    return f"{line[:first]} ... ({excess} characters left out) ... {line[-_LAST_COLUMNS:]}"
