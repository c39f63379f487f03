"""Some episodes in detail: strips of frames and curves on one time axis, with what was found.

T: timesteps, D: dimensions of a key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from attrs import frozen

from simscaleai_core.data.source import Episode, EpisodeSource, Key
from simscaleai_core.errors import DataError
from simscaleai_plugin_data.view.drawing import (
    Range,
    Tick,
    polylines,
    range_of,
    time_place,
    time_ticks,
)
from simscaleai_plugin_data.view.frames import Strip, read_strip
from simscaleai_plugin_data.view.overview import Numbers, dimension_names, rows_of

if TYPE_CHECKING:
    from simscaleai_plugin_data.findings import Finding

NUM_COLOURS = 8
"""Curves in one panel at most: each has a colour of its own."""

_MAX_CURVES = 5 * NUM_COLOURS  # of one key
_MAX_CAMERAS = 8
_NUM_FRAMES = 12  # of a strip: the page hides every second where it is narrow
_MAX_FRAMES = 480  # of all strips: a page of a few MB


@frozen(kw_only=True)
class Curve:
    """One dimension over an episode."""

    name: str
    """Name of the dimension."""
    parts: tuple[str, ...]
    """Points of each part without a gap."""


@frozen(kw_only=True)
class Mark:
    """A finding at a timestep."""

    number: int
    """Its number among those of the episode, from 1."""
    at: float
    """Where it is, in percent of the time axis."""
    key: str | None
    """The key that it is about, if it is about one."""
    severity: str
    """How grave it is."""


@frozen(kw_only=True)
class Panel:
    """Curves of a key that share their scale."""

    key: str
    """Name of the key."""
    shown: Range
    """The values at the upper and lower edge, in the units of the data."""
    curves: tuple[Curve, ...]
    """The curves, at most `NUM_COLOURS`."""

    @property
    def ticks(self) -> list[Tick]:
        """Return the ticks of the value axis."""
        return self.shown.ticks()


@frozen(kw_only=True)
class EpisodeView:
    """One episode in detail."""

    number: int
    """Its position in the data."""
    episode: Episode
    """The episode."""
    strips: tuple[Strip, ...]
    """Frames of each camera."""
    panels: tuple[Panel, ...]
    """Curves of each key."""
    ticks: tuple[tuple[Tick, str], ...]
    """Ticks of the time axis, each with its time in words or nothing."""
    findings: tuple[Finding, ...]
    """What was found in it, in the order of time; the first is number 1."""
    marks: tuple[Mark, ...]
    """Those of them that have a timestep."""
    left_out: tuple[str, ...]
    """What is not drawn, in words."""


def choose_episodes(num_episodes: int, num_shown: int, num_findings: Counter[int]) -> list[int]:
    """Return which episodes to show: some spread over the data, and as many with findings.

    Args:
        num_episodes: Episodes that there are.
        num_shown: Episodes of each sort to show at most.
        num_findings: Findings in each episode, weighted by how grave they are.

    Returns:
        Their positions, in order.

    Example:
        >>> choose_episodes(100, 3, Counter({41: 7, 8: 2}))
        [0, 8, 41, 50, 99]
    """
    spread = np.linspace(0, num_episodes - 1, min(num_shown, num_episodes)).round().astype(int)
    marked = sorted(
        (e for e in range(num_episodes) if num_findings[e]), key=lambda e: -num_findings[e]
    )
    return sorted({*spread.tolist(), *marked[:num_shown]})


def frames_per_strip(num_strips: int) -> int:
    """Return how many frames a strip has, so that the page stays small."""
    return max(3, min(_NUM_FRAMES, _MAX_FRAMES // max(num_strips, 1)))


def read_episode(
    source: EpisodeSource, number: int, findings: Sequence[Finding], num_frames: int
) -> EpisodeView:
    """Read one episode.

    Args:
        source: The demonstrations.
        number: Position of the episode.
        findings: What was found in it.
        num_frames: Frames of a strip.

    Returns:
        What is drawn of it.
    """
    episode = source.episodes[number]
    ordered = sorted(findings, key=lambda f: -1 if f.timestep is None else f.timestep)
    strips: list[Strip] = []
    panels: list[Panel] = []
    left_out: list[str] = []
    for key in (*source.observations, source.actions):
        try:
            if key.kind == "low-dimensional":
                rows = rows_of(source.read(number, key.name, 0, episode.length), key)
                panels += _panels(key, rows)
            elif len(strips) < _MAX_CAMERAS:
                strips.append(read_strip(source, number, key, num_frames))
            else:
                left_out.append(f"camera {key.name}")
        except DataError:  # a finding of the check; the rest is shown all the same
            left_out.append(f"{key.name}, which cannot be read")
        if key.kind == "low-dimensional" and key.width > _MAX_CURVES:
            left_out.append(f"dimensions {_MAX_CURVES} to {key.width - 1} of {key.name}")
    return EpisodeView(
        number=number,
        episode=episode,
        strips=tuple(strips),
        panels=(*panels, *_rewards(source, number)),
        ticks=tuple(time_ticks(episode.length, getattr(source, "fps", None) or None)),
        findings=tuple(ordered),
        marks=tuple(_marks(ordered, episode.length)),
        left_out=tuple(left_out),
    )


def _panels(key: Key, rows: Numbers) -> list[Panel]:
    width = min(key.width, _MAX_CURVES)
    names = dimension_names(key)
    groups = np.array_split(np.arange(width), -(-width // NUM_COLOURS)) if width else []
    return [_panel(key.name, [names[d] for d in group], rows[:, group]) for group in groups]


def _panel(key: str, names: Sequence[str], rows: Numbers) -> Panel:
    shown = range_of(rows)
    curves = [
        Curve(name=name, parts=tuple(polylines(column, shown)))
        for name, column in zip(names, rows.T, strict=True)
    ]
    return Panel(key=key, shown=shown, curves=tuple(curves))


def _rewards(source: EpisodeSource, number: int) -> list[Panel]:
    read = getattr(source, "rewards", None)
    rewards = None if read is None else read(number)
    if rewards is None:
        return []
    return [_panel("reward", [""], np.asarray(rewards, dtype=np.float64).reshape(-1, 1))]


def _marks(findings: Sequence[Finding], length: int) -> list[Mark]:
    return [
        Mark(
            number=place,
            at=time_place(min(max(found.timestep, 0), length - 1), length),
            key=found.key,
            severity=found.severity,
        )
        for place, found in enumerate(findings, 1)
        if found.timestep is not None and length
    ]
