"""The text of a row: a bar between what matters, fitted to the width of the terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from attrs import frozen

from simscaleai_core.cli import terminal

if TYPE_CHECKING:
    from rich.console import Console

_GAP = "  "
_SHORTEST_BAR = 6
_LONGEST_BAR = 40
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_PREFIXES = ("", "k", "M", "G", "T")


@frozen
class Part:
    """Words of a row."""

    text: str
    """What it says."""
    rank: int = 0
    """The parts of the highest rank are left out first where the terminal is narrow."""
    style: str = ""
    """How rich shows it."""


@frozen
class Bar:
    """How far something is; it takes the columns that are left over."""

    done: float
    """Units done."""
    total: float
    """Units in all."""


def row(parts: Sequence[Part | Bar], width: int) -> str:
    """Return parts in one row of at most `width` columns, with the terminal's colours."""
    from rich.cells import cell_len
    from rich.text import Text

    kept = [part for part in parts if isinstance(part, Bar) or part.text]

    def taken() -> int:
        sizes = [_SHORTEST_BAR if isinstance(p, Bar) else cell_len(p.text) for p in kept]
        return sum(sizes) + len(_GAP) * (len(sizes) - 1)

    while taken() > width and (others := [p for p in kept if isinstance(p, Part) and p.rank]):
        least = max(part.rank for part in others)
        kept.remove([part for part in others if part.rank == least][-1])
    if taken() > width:
        kept = [part for part in kept if isinstance(part, Part)]
    length = min(_SHORTEST_BAR + max(width - taken(), 0), _LONGEST_BAR)
    shown = [
        _drawn(p, length) if isinstance(p, Bar) else Text(terminal.escaped(p.text), p.style)
        for p in kept
    ]
    text = Text(_GAP).join(shown)
    text.truncate(width)
    return _ansi(text)


class Wait:
    """The source of a row that says what goes on, and for how long."""

    def __init__(self, description: str) -> None:
        self._description, self._begun = description, time.monotonic()

    def __call__(self, width: int) -> str:
        """Return the row as it is now."""
        passed = duration(time.monotonic() - self._begun)
        return row([Part(self._description), Part(passed, 1, "dim")], width)


class Count:
    """The source of a row that counts units of work."""

    def __init__(self, description: str, total: int) -> None:
        self._description, self._total, self._done = description, total, 0
        self._begun = self._moved = time.monotonic()

    def advance(self, count: int = 1) -> None:
        """Move forward by `count` units."""
        self._done += count
        self._moved = time.monotonic()

    def __call__(self, width: int) -> str:
        """Return the row as it is now."""
        now, done, total = time.monotonic(), self._done, self._total
        passed = (self._moved if done >= total else now) - self._begun
        speed = pace(done / passed) if done and passed > 0 else ""
        if done >= total:
            left = f"finishing {duration(now - self._moved)}"
        else:
            left = f"{duration(passed * (total - done) / done)} left" if done else duration(passed)
        count = f"{done:>{len(str(total))}}/{total}"
        parts = [Part(count), Part(speed, 1, "dim"), Part(left, style="cyan")]
        return row([Part(self._description), Bar(done, total), *parts], width)


def duration(seconds: float) -> str:
    """Return a time as people read it.

    Example:
        >>> duration(9.6), duration(75), duration(3 * 3600 + 5), duration(2 * 86400 + 3 * 3600)
        ('0:09', '1:15', '3:00:05', '2d 3h')
    """
    whole = int(max(seconds, 0))
    if whole >= _DAY:
        return f"{whole // _DAY}d {whole % _DAY // _HOUR}h"
    hours, minutes, rest = whole // _HOUR, whole % _HOUR // _MINUTE, whole % _MINUTE
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def pace(per_second: float) -> str:
    """Return how many of something there are in a time that is long enough for one.

    Example:
        >>> pace(1234), pace(2.5), pace(0.05), pace(0.001)
        ('1.23k/s', '2.5/s', '3/min', '3.6/h')
    """
    for scale, unit in ((1, "s"), (_MINUTE, "min")):
        if per_second * scale >= 1:
            return f"{short(per_second * scale)}/{unit}"
    return f"{short(per_second * _HOUR)}/h"


def short(number: float) -> str:
    """Return a number with three digits.

    Example:
        >>> short(26770.0), short(999.6), short(0.5), short(float("nan"))
        ('26.8k', '1k', '0.5', 'nan')
    """
    for prefix in _PREFIXES:
        if not abs(number) >= 999.5 or prefix == _PREFIXES[-1]:
            break
        number /= 1000
    return f"{number:.3g}{prefix}"


def _drawn(bar: Bar, length: int) -> Any:
    """Return a bar of rich's as text, which can stand beside other text."""
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    console = _console()
    drawn = ProgressBar(bar.total or 1, bar.done, length)
    pieces = console.render(drawn, console.options)
    text = Text.assemble(*((piece.text, piece.style or "") for piece in pieces))
    text.rstrip()
    text.pad_right(length - text.cell_len)
    return text


def _ansi(text: Any) -> str:
    console = _console()
    with console.capture() as captured:
        console.print(text, end="", no_wrap=True, crop=False, soft_wrap=True)
    return captured.get()


@cache
def _console() -> Console:
    """Return what knows the colours of standard error, and NO_COLOR."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False)
