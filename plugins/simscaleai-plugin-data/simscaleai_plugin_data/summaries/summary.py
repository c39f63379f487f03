"""The summary of one episode, and of all: all that the checks look at.

T: timesteps, W: columns of the packed numbers, A: dimensions of an action, P: moments, r: samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from attrs import define, field, frozen

from simscaleai_core.contracts import Statistics
from simscaleai_core.data.source import Episode, Key
from simscaleai_plugin_data.summaries.cost import ReadingCost
from simscaleai_plugin_data.summaries.effects import Effect, Effects, measure_effect
from simscaleai_plugin_data.summaries.frames import CameraSummary, look, runs, spaced
from simscaleai_plugin_data.summaries.reading import (
    Array,
    Member,
    columns_of,
    filled,
    is_sound,
    names_of,
    optional_series,
    read_matrix,
)
from simscaleai_plugin_data.summaries.scale import Scale

Floats = npt.NDArray[np.float32]

MOMENTS = 16
"""Moments of an episode at which it is compared with others."""
FAR = 20.0
"""Distance from the middle from which a number is far [spreads]."""

_FIRST = 4  # timesteps that two recordings do not have in common
_STILL = 0.005  # of the spread


@frozen(kw_only=True)
class Broken:
    """Numbers of one key that are not finite."""

    count: int
    """How many."""
    total: int
    """Of how many."""
    timestep: int
    """The first."""


@frozen(kw_only=True, eq=False)
class Extremes:
    """What is far from the other numbers in an episode, in spreads `[W]` each."""

    spike: Floats
    """Largest jump of a single timestep, there and back."""
    spike_at: npt.NDArray[np.int32]
    """Its timestep."""
    far: Floats
    """Largest distance from the middle."""
    far_at: npt.NDArray[np.int32]
    """Its timestep."""
    num_far: npt.NDArray[np.int32]
    """Timesteps more than `FAR` from the middle."""


@frozen(kw_only=True, eq=False)
class EpisodeSummary:
    """What the checks know of an episode."""

    path: Path
    """The data that it is in."""
    episode: Episode
    """What the data says of it."""
    broken: Mapping[str, Broken]
    """By key: numbers that are not finite."""
    low: Floats
    """Smallest number of each column `[W]`."""
    high: Floats
    """Largest number of each column `[W]`."""
    rms: Floats
    """Root mean square of each column `[W]`."""
    size: Floats
    """Median absolute value of each column `[W]`."""
    std: Floats
    """Standard deviation of each column `[W]`."""
    at_low: npt.NDArray[np.int64]
    """Timesteps of each action at its smallest in this episode `[A]`."""
    at_high: npt.NDArray[np.int64]
    """Timesteps of each action at its largest in this episode `[A]`."""
    ends: Floats
    """First and last action `[2, A]`."""
    num_values: npt.NDArray[np.int64]
    """Different values of each action `[A]`."""
    extremes: Extremes
    """What is far from the other numbers."""
    idle: tuple[int, int]
    """First timestep and length of the longest pause."""
    digest: bytes
    """Digest of all numbers; equal for equal episodes."""
    seen: bytes
    """Digest of what is observed first: equal if it is one recording."""
    track: npt.NDArray[np.float16]
    """The episode at evenly spaced moments, in spreads from the middle `[P, W]`."""
    effect: Effect | None
    """What the actions do."""
    times: Array | None
    """Timestamps `[T]` [s], if the data has them."""
    cameras: Mapping[str, CameraSummary]
    """What each camera saw."""
    samples: tuple[int, ...]
    """Timesteps of which the numbers are kept."""
    rows: Floats
    """The numbers at these, in spreads from the middle `[r, W]`."""


@define(eq=False)
class Totals:
    """Mean, deviation and range of every column over all episodes, added one by one."""

    count: int = 0
    mean: Array = field(factory=lambda: np.zeros(0))
    square: Array = field(factory=lambda: np.zeros(0))
    low: Array = field(factory=lambda: np.zeros(0))
    high: Array = field(factory=lambda: np.zeros(0))

    def add(self, matrix: Array) -> None:
        """Add the numbers of an episode.

        Args:
            matrix: Finite numbers `[T, W]`.

        Source:
            Chan, Golub and LeVeque 1979: pairwise update of mean and sum of squares.
        """
        if not len(matrix):
            return
        mean = matrix.mean(axis=0)
        self.merge(
            Totals(
                count=len(matrix),
                mean=mean,
                square=np.square(matrix - mean).sum(axis=0),
                low=matrix.min(axis=0),
                high=matrix.max(axis=0),
            )
        )

    def merge(self, other: Totals) -> None:
        """Add what others have added up."""
        if not self.count:
            self.mean, self.square, self.low, self.high = (
                other.mean, other.square, other.low, other.high
            )  # fmt: skip
        elif other.count:
            delta, total = other.mean - self.mean, self.count + other.count
            self.mean = self.mean + delta * other.count / total
            between = np.square(delta) * self.count * other.count / total
            self.square = self.square + other.square + between
            self.low = np.minimum(self.low, other.low)
            self.high = np.maximum(self.high, other.high)
        self.count += other.count

    @property
    def std(self) -> Array:
        """Return the deviation of every column `[W]`."""
        return np.sqrt(self.square / max(1, self.count))


@frozen(kw_only=True, eq=False)
class DataSummary:
    """What the checks know of episodes that have the same keys."""

    keys: tuple[Key, ...]
    """The low-dimensional observation keys, and the actions last."""
    columns: Mapping[str, slice]
    """The columns of each."""
    scale: Scale
    """What is usual."""
    totals: Totals
    """Mean, deviation and range over all timesteps."""
    totals_of: Mapping[Path, Totals]
    """The same of each source."""
    episodes: Sequence[EpisodeSummary]
    """The episodes that could be read, source after source."""
    fps: Mapping[Path, float]
    """What each source states as its timesteps per second, if it does."""
    stored: Mapping[Path, Mapping[str, Statistics]]
    """Statistics that lie beside the data of each source."""
    costs: Mapping[Path, Mapping[str, ReadingCost]]
    """What a frame of each camera costs to read, by source; none if none were to be looked at."""

    @property
    def effects(self) -> Effects:
        """Return what the actions do."""
        return self.scale.effects

    @property
    def action_columns(self) -> slice:
        """Return the columns of the actions."""
        return self.columns[self.keys[-1].name]

    @property
    def is_relabelled(self) -> bool:
        """Return whether most of what was seen is stored with several actions.

        Each of them follows another instruction then, and few of them moved the robot.
        """
        groups: dict[bytes, set[bytes]] = {}
        for each in self.episodes:
            groups.setdefault(each.seen, set()).add(each.digest)
        return 2 * sum(len(each) > 1 for each in groups.values()) > len(groups)

    def name_of(self, column: int) -> tuple[str, str]:
        """Return the key of a column, and the key with the dimension's index or name."""
        name, dimension = names_of(self.columns, column)
        key = next(k for k in self.keys if k.name == name)
        label = f" ({key.dimensions[dimension]})" if key.dimensions else ""
        return name, name if key.width == 1 else f"{name}[{dimension}]{label}"


@frozen(kw_only=True)
class Plan:
    """How much of an episode is looked at."""

    keys: tuple[Key, ...]
    """The low-dimensional keys, and the actions last."""
    cameras: tuple[Key, ...]
    """The image keys."""
    frames: int
    """Frames of an episode and camera."""
    samples: int
    """Timesteps whose numbers are kept; 0 for every nth episode only."""


def summarise(member: Member, plan: Plan, scale: Scale, totals: Totals) -> EpisodeSummary:
    """Read an episode once and summarise it.

    Args:
        member: The episode; it has at least one timestep.
        plan: What to look at.
        scale: What is usual.
        totals: Sums that its numbers are added to.

    Returns:
        The summary.
    """
    stored, columns = read_matrix(member, plan.keys), columns_of(plan.keys)
    matrix = filled(stored)
    totals.add(matrix)
    actions = matrix[:, columns[plan.keys[-1].name]]
    relative = _relative(matrix, scale)
    looked = spaced(len(matrix), plan.frames or plan.samples)
    samples = spaced(len(looked), plan.samples) if plan.samples else np.zeros(0, dtype=np.int64)
    state = relative[looked, : -actions.shape[1]]
    state = state[:, scale.spread[: -actions.shape[1]] > 0]
    cameras = plan.cameras if plan.frames else ()
    seen = {k.name: look(member, k, looked, samples, state) for k in cameras}
    return EpisodeSummary(
        path=member.path,
        episode=member.episode,
        broken=_broken(member, stored, columns),
        low=matrix.min(axis=0).astype(np.float32),
        high=matrix.max(axis=0).astype(np.float32),
        rms=np.sqrt(np.square(matrix).mean(axis=0)).astype(np.float32),
        size=np.median(np.abs(matrix), axis=0).astype(np.float32),
        std=matrix.std(axis=0).astype(np.float32),
        at_low=(actions == actions.min(axis=0)).sum(axis=0),
        at_high=(actions == actions.max(axis=0)).sum(axis=0),
        ends=actions[[0, -1]].astype(np.float32),
        num_values=np.array([len(np.unique(column)) for column in actions.T]),
        extremes=_extremes(relative),
        idle=_idle(relative, actions.shape[1], scale.spread > 0),
        digest=_digest(stored),
        seen=_digest(stored[:_FIRST, : -actions.shape[1]], *(c.first for c in seen.values())),
        track=relative[np.linspace(0, len(matrix) - 1, MOMENTS).round().astype(int)].astype(
            np.float16
        ),
        effect=measure_effect(matrix, actions.shape[1], scale.effects),
        times=optional_series(member, "timestamps"),
        cameras=seen,
        samples=tuple(looked[samples].tolist()),
        rows=relative[looked[samples]].astype(np.float32),
    )


def _digest(*parts: npt.NDArray[Any]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    with np.errstate(over="ignore"):
        for part in parts:
            digest.update(part.astype(np.float32).tobytes())
    return digest.digest()


def _relative(matrix: Array, scale: Scale) -> Array:
    """Return the numbers in spreads from the middle; 0 where there is no spread."""
    away = matrix - scale.centre
    found = np.divide(away, scale.spread, out=np.zeros_like(away), where=scale.spread > 0)
    return np.clip(found, -1e4, 1e4)


def _broken(member: Member, stored: Array, columns: Mapping[str, slice]) -> dict[str, Broken]:
    parts = {name: stored[:, span] for name, span in columns.items()}
    rewards = optional_series(member, "rewards")
    if rewards is not None:
        parts["rewards"] = rewards[:, None]
    found = {}
    for name, part in parts.items():
        bad = ~is_sound(part)
        if bad.any():
            timestep = int(bad.any(axis=1).argmax())
            found[name] = Broken(count=int(bad.sum()), total=bad.size, timestep=timestep)
    return found


def _extremes(relative: Array) -> Extremes:
    steps = np.diff(relative, axis=0)
    spikes = np.zeros_like(relative)
    spikes[1:-1] = np.minimum(np.abs(steps[:-1]), np.abs(steps[1:])) * (steps[:-1] * steps[1:] < 0)
    away, columns = np.abs(relative), np.arange(relative.shape[1])
    spike_at, far_at = spikes.argmax(axis=0), away.argmax(axis=0)
    return Extremes(
        spike=spikes[spike_at, columns].astype(np.float32),
        spike_at=spike_at.astype(np.int32),
        far=away[far_at, columns].astype(np.float32),
        far_at=far_at.astype(np.int32),
        num_far=(away > FAR).sum(axis=0).astype(np.int32),
    )


def _idle(relative: Array, action_dim: int, moves: npt.NDArray[np.bool_]) -> tuple[int, int]:
    state, actions = moves[:-action_dim], moves[-action_dim:]
    if not state.any() or not actions.any():
        return 0, 0
    steps = np.diff(relative, axis=0)
    parts = (steps[:, :-action_dim][:, state], steps[:, -action_dim:][:, actions])
    still = np.ones(len(steps), dtype=np.bool_)
    for part in parts:
        still &= np.sqrt(np.square(part).mean(axis=1)) < _STILL
    first, last = max(runs(still), key=lambda run: run[1] - run[0], default=(0, -1))
    return first, last - first + 1
