"""Where things lie in a picture: ticks, curves as points, bars.

T: timesteps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from attrs import frozen

WIDTH, HEIGHT = 1000, 100
"""Size of the space in which curves are drawn; the page stretches it."""

_MAX_COLUMNS = 300
"""A curve of more than twice as many points keeps the lowest and the highest of each part."""


@frozen
class Tick:
    """A labelled place on an axis."""

    at: float
    """Where it is, in percent of the axis, from the left or from the top."""
    label: str
    """What is there."""


@frozen(kw_only=True)
class Range:
    """The values that a panel shows, from its lower to its upper edge."""

    low: float
    """Value at the lower edge."""
    high: float
    """Value at the upper edge; higher than `low`."""

    def ticks(self, number: int = 4) -> list[Tick]:
        """Return about `number` ticks at round values, from the top down."""
        places = reversed(round_values(self.low, self.high, number))
        return [Tick(100 * (1 - self.fraction(v)), f"{v + 0.0:.8g}") for v in places]

    def fraction(self, value: float) -> float:
        """Return how far from the lower edge to the upper one a value lies."""
        return (value / 2 - self.low / 2) / (self.high / 2 - self.low / 2)


def range_of(values: npt.NDArray[np.float64]) -> Range:
    """Return a range with a little room around the finite ones of some values of any shape."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    margin = 0.08 * (high / 2 - low / 2) or 0.5 * abs(high) or 0.5
    limit = np.finfo(np.float64).max
    return Range(low=max(low - margin, -limit), high=min(high + margin, limit))


def round_values(low: float, high: float, number: int) -> list[float]:
    """Return about `number` round values from `low` to `high`: multiples of 1, 2 or 5.

    Example:
        >>> round_values(-0.3, 1.1, 3)
        [0.0, 0.5, 1.0]
    """
    rough = (high / number - low / number) or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{k * step:.12g}") for k in range(first, last + 1)]


def number_text(value: float) -> str:
    """Return a number as short as it can be read.

    Example:
        >>> [number_text(v) for v in (0.30000000000000004, -0.0, 12345.678, 1e-7)]
        ['0.3', '0', '1.235e+04', '1e-07']
    """
    return f"{value + 0.0:.4g}"


def time_ticks(length: int, fps: float | None, number: int = 8) -> list[tuple[Tick, str]]:
    """Return ticks at round timesteps, each with its time in words if `fps` is known."""
    places = [int(t) for t in round_values(0, max(length - 1, 1), number) if t == int(t) < length]
    return [
        (Tick(time_place(t, length), str(t)), "" if fps is None else seconds_text(t / fps))
        for t in places
    ]


def time_place(timestep: int, length: int) -> float:
    """Return where a timestep is drawn, in percent: in the middle of its part of the axis."""
    return round(100 * (timestep + 0.5) / length, 3)


def seconds_text(seconds: float) -> str:
    """Return a duration in words.

    Example:
        >>> [seconds_text(s) for s in (0.25, 90, 7265)]
        ['0.25 s', '1 min 30 s', '2 h 1 min']
    """
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def polylines(
    values: npt.NDArray[np.float64],
    shown: Range,
    places: npt.NDArray[np.float64] | None = None,
) -> list[str]:
    """Return a curve as points ``x,y`` of `WIDTH` and `HEIGHT`; what is not finite leaves gaps.

    Args:
        values: A value for each timestep `[T]`.
        shown: The values at the edges.
        places: Where each is, from 0 on the left to 1 `[T]`; in the middle of its timestep if None.

    Returns:
        The points of each part without a gap.
    """
    length = len(values)
    steps = _thinned(values)
    kept = values[steps]
    x = ((steps + 0.5) / length if places is None else places[steps]) * WIDTH
    y = HEIGHT * (1 - (kept / 2 - shown.low / 2) / (shown.high / 2 - shown.low / 2))
    finite = np.isfinite(kept)
    edges = np.flatnonzero(np.diff(finite.astype(np.int8))) + 1
    parts = np.split(np.arange(len(kept)), edges)
    return [_points(x[p], y[p]) for p in parts if len(p) and finite[p[0]]]


def bars(counts: Sequence[int]) -> Iterator[tuple[float, float]]:
    """Yield position and height of each bar of a histogram, in `WIDTH` and `HEIGHT`."""
    highest = max(counts, default=0) or 1
    for number, count in enumerate(counts):
        # a bar of one timestep among thousands can still be seen
        height = max(HEIGHT * count / highest, 2.0) if count else 0.0
        yield round(WIDTH * number / len(counts), 2), round(height, 2)


def _thinned(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the timesteps that are drawn; peaks and gaps stay."""
    if len(values) <= 2 * _MAX_COLUMNS:
        return np.arange(len(values))
    kept: set[int] = set()
    edges = np.linspace(0, len(values), _MAX_COLUMNS + 1).astype(int)
    for first, after in pairwise(edges.tolist()):
        part = values[first:after]
        finite = np.isfinite(part)
        if finite.any():
            low, high = np.where(finite, part, np.inf), np.where(finite, part, -np.inf)
            kept |= {first + int(low.argmin()), first + int(high.argmax())}
        if not finite.all():
            kept.add(first + int(finite.argmin()))
    return np.array(sorted(kept))


def _points(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True))
