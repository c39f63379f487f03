"""Checks of the clock: gaps, steps back, another rate than stated."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from simscaleai_plugin_data.findings import Finding
from simscaleai_plugin_data.summaries.summary import DataSummary, EpisodeSummary

_GAP = 1.75  # usual steps
_RATE = 0.05
_TIMESTEPS = 4


def time_gaps(data: DataSummary) -> Iterator[Finding]:
    """Find timesteps that are missing."""
    for each, steps in _steps(data):
        usual = float(np.median(steps))
        back = np.concatenate(([False], steps <= 0, [False]))
        gaps = np.flatnonzero((steps > _GAP * usual) & ~back[:-2] & ~back[2:])
        if usual > 0 and gaps.size:
            place = int(gaps[0])
            yield _of(
                each, "time-gap",
                f"{gaps.size} gap{'s' * (gaps.size > 1)}, the first of {steps[place]:.3g} s after "
                f"timestep {place}; usually {usual:.3g} s pass", place, float(steps[gaps].max()),
            )  # fmt: skip


def clocks_that_run_back(data: DataSummary) -> Iterator[Finding]:
    """Find timestamps that are not later than the one before."""
    for each, steps in _steps(data):
        back = np.flatnonzero(~(steps > 0))
        if back.size:
            place = int(back[0])
            yield _of(
                each, "clock-back",
                f"{back.size} timestamp{'s' * (back.size > 1)} not later than the one before, the "
                f"first at timestep {place + 1}, {steps[place]:.3g} s after it", place + 1,
                float(back.size),
            )  # fmt: skip


def frame_rates(data: DataSummary) -> Iterator[Finding]:
    """Find data whose timestamps do not have the rate that it states."""
    rates: dict[object, list[float]] = {}
    for each, steps in _steps(data):
        usual = float(np.median(steps))
        if usual > 0:
            rates.setdefault(each.path, []).append(1 / usual)
    for path, stated in data.fps.items():
        found = float(np.median(rates.get(path, [stated])))
        if abs(found - stated) > _RATE * stated:
            yield Finding(
                code="frame-rate",
                message=f"the data states {stated:g} timesteps per second, its timestamps say "
                f"{found:.3g}",
                path=path, number=found,
            )  # fmt: skip


def _steps(data: DataSummary) -> Iterator[tuple[EpisodeSummary, npt.NDArray[np.float64]]]:
    for each in data.episodes:
        if each.times is not None and len(each.times) >= _TIMESTEPS:
            yield each, np.diff(each.times)


def _of(each: EpisodeSummary, code: str, message: str, timestep: int, number: float) -> Finding:
    return Finding(
        code=code, message=message, path=each.path, episode=each.episode.name, timestep=timestep,
        number=number,
    )  # fmt: skip
