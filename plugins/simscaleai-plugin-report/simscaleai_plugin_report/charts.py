"""Curves over the steps, as panels that the template draws.

N: points of a curve.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from attrs import evolve, frozen
from simscaleai_plugin_data.view.drawing import (
    Range,
    Tick,
    number_text,
    polylines,
    range_of,
    round_values,
)

from simscaleai_plugin_report.files import Curve

_LOSS = ("loss", True, ("train/loss", "eval/loss"))
_RATES = ("learning rate", False, ("train/lr",))
_NORM = ("gradient norm", True, ("train/grad_norm",))
_CLOSED_LOOP = "eval/success_rate"
_BOUNDS = (f"{_CLOSED_LOOP}_low", f"{_CLOSED_LOOP}_high")
_GREY = 7  # number of its colour
_MANY_DECADES = 2  # from so many on only powers of ten are marked
_LEAST = 1e-300


@frozen(kw_only=True)
class Line:
    """One curve of a panel."""

    name: str
    """What it is, in the legend."""
    colour: int
    """Number of its colour, 0 to 7."""
    is_dashed: bool
    """Whether it is dashed: eight colours on, all come again."""
    last: str
    """Its last value, in words."""
    parts: Sequence[str]
    """The points of each part without a gap."""


@frozen(kw_only=True)
class Panel:
    """Some curves on the same axes."""

    title: str
    """What is drawn."""
    is_log: bool
    """Whether the values are on a logarithmic axis."""
    lines: Sequence[Line]
    """The curves."""
    ticks: Sequence[Tick]
    """Marks of the values, from the top down."""
    steps: Sequence[Tick]
    """Marks of the steps."""
    unit: str = "step"
    """What is on the other axis."""


def panels_of(curves: Mapping[str, Curve]) -> list[Panel]:
    """Return the panels of one run: loss, closed loop, learning rate, gradient norm."""
    wanted = [_LOSS, ("success in closed loop", False, (_CLOSED_LOOP, *_BOUNDS)), _RATES, _NORM]
    groups = [(title, log, [n for n in names if n in curves]) for title, log, names in wanted]
    panels = [
        _panel(title, log, [(n, curves[n]) for n in names]) for title, log, names in groups if names
    ]
    return [evolve(panel, lines=[_as_bound(line) for line in panel.lines]) for panel in panels]


def _as_bound(line: Line) -> Line:
    """Return a bound of an interval as a dashed grey line, any other as it is."""
    return evolve(line, colour=_GREY, is_dashed=True) if line.name in _BOUNDS else line


def panel_of_looks(looks: Sequence[Sequence[float]]) -> Panel | None:
    """Return how the interval of a success rate became narrow, or None with less than two looks.

    Args:
        looks: Episodes, lower and upper bound [fraction] of each.
    """
    if len(looks) < 2:
        return None
    episodes, low, high = np.array(looks, dtype=np.float64).T
    bounds = [("upper bound", high), ("lower bound", low)]
    curves = [(name, Curve(steps=episodes, values=values)) for name, values in bounds]
    return evolve(_panel("interval at every look", False, curves), unit="episode")


def panels_over_each_other(runs: Sequence[tuple[str, Mapping[str, Curve]]]) -> list[Panel]:
    """Return a panel for each metric that a run has, with a curve for each run.

    Args:
        runs: Name and curves of each.
    """
    wanted = [
        ("loss", True, "train/loss"),
        ("held-out loss", True, "eval/loss"),
        ("success in closed loop", False, _CLOSED_LOOP),
        ("learning rate", False, "train/lr"),
        ("gradient norm", True, "train/grad_norm"),
    ]
    return [
        _panel(title, log, [(name, curves.get(metric)) for name, curves in runs])
        for title, log, metric in wanted
        if any(metric in curves for _, curves in runs)
    ]


def _panel(title: str, is_log: bool, named: Sequence[tuple[str, Curve | None]]) -> Panel:
    there = [curve for _, curve in named if curve is not None]
    every = np.concatenate([curve.values for curve in there])
    is_log = is_log and bool((every > _LEAST).any())
    shown = range_of(_scaled(every, is_log))
    low = min(float(c.steps.min()) for c in there)
    high = max(float(c.steps.max()) for c in there)
    if 2 * low < high:  # only the tail of a run begins elsewhere than at 0
        low = 0.0
    span = high - low or 1.0
    lines = [
        Line(
            name=name,
            colour=number % 8,
            is_dashed=number >= 8,
            last=_last(curve.values),
            parts=polylines(_scaled(curve.values, is_log), shown, (curve.steps - low) / span),
        )
        for number, (name, curve) in enumerate(named)
        if curve is not None
    ]
    ticks = list(_log_ticks(shown)) if is_log else shown.ticks()
    return Panel(
        title=title,
        is_log=is_log,
        lines=lines,
        ticks=ticks,
        steps=[
            Tick(100 * (v - low) / span, f"{v:,.6g}" if v < 1e6 else number_text(v))
            for v in round_values(low, high, 5)
        ]
        if high > low
        else [Tick(0, f"{low:,.6g}")],
    )


def _scaled(values: npt.NDArray[np.float64], is_log: bool) -> npt.NDArray[np.float64]:
    """Return the values as they are drawn `[N]`; logarithms are NaN where there is none."""
    if not is_log:
        return values
    return np.log10(np.where(values > _LEAST, values, np.nan))


def _log_ticks(shown: Range) -> Iterator[Tick]:
    """Yield round values of a range of logarithms, from the top down."""
    first, last = math.floor(shown.low), math.ceil(shown.high)
    span = shown.high - shown.low
    every = max(1, math.ceil(span / 4))
    digits = (1,) if span >= _MANY_DECADES else (1, 2, 5)
    places = [
        (power + math.log10(digit), digit * 10.0**power)
        for power in range(first, last + 1)
        if power % every == 0
        for digit in digits
    ]
    inside = [(place, value) for place, value in places if shown.low <= place <= shown.high]
    if not inside:
        yield from (Tick(t.at, number_text(10.0 ** float(t.label))) for t in shown.ticks())
        return
    for place, value in inside[::-1]:
        yield Tick(round(100 * (1 - shown.fraction(place)), 2), number_text(value))


def _last(values: npt.NDArray[np.float64]) -> str:
    finite = values[np.isfinite(values)]
    return number_text(float(finite[-1])) if finite.size else "nothing finite"


def curve_facts(curves: Mapping[str, Curve]) -> dict[str, Any]:
    """Return how each metric ran: number of rows, first and last step, last, lowest and highest."""
    return {name: _facts(curve) for name, curve in sorted(curves.items())}


def _facts(curve: Curve) -> dict[str, Any]:
    finite = curve.values[np.isfinite(curve.values)]
    return {
        "rows": len(curve.values),
        "first_step": float(curve.steps[0]),
        "last_step": float(curve.steps[-1]),
        "last": float(curve.values[-1]),
        "lowest": float(finite.min()) if finite.size else None,
        "highest": float(finite.max()) if finite.size else None,
    }
