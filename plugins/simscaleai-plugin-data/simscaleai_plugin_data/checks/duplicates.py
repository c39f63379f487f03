"""Checks of episodes that are alike: copies, near copies, and what follows from them.

E: episodes, N: numbers of a track.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from attrs import frozen

from simscaleai_core.config import TrainConfig
from simscaleai_plugin_data.findings import Finding
from simscaleai_plugin_data.summaries.summary import DataSummary, EpisodeSummary

NEAR = 0.01
"""Distance below which two episodes are near duplicates [spreads]."""

_LEAST = 3  # timesteps, for a near duplicate
_STILL, _SMALL = 2e-3, 0.05  # units of the data, and of the key's largest: what is below is noise
_LENGTHS = 0.1
_GREY_LEVELS = 2.0
_BLOCK = 256


@frozen(kw_only=True, eq=False)
class Pair:
    """An episode that is like an earlier one."""

    first: EpisodeSummary
    """The earlier one."""
    copy: EpisodeSummary
    """The later one."""
    distance: float
    """How far they are apart [spreads]; 0 if all numbers are equal."""

    @property
    def is_told_apart(self) -> bool:
        """Return whether they have different instructions."""
        return set(self.first.episode.instructions) != set(self.copy.episode.instructions)


def duplicates(data: DataSummary) -> Iterator[Finding]:
    """Find copies, copies with another instruction, and copies on both sides of the split."""
    pairs = _pairs(data)
    held_out = _held_out(data.episodes) if pairs else set()
    for pair in pairs:
        first, copy = pair.first.episode, pair.copy.episode
        other = (
            first.name
            if pair.first.path == pair.copy.path
            else f"{first.name} of {pair.first.path}"
        )
        alike = "equals" if pair.distance == 0 else f"follows to {pair.distance:.1%} of the spread"
        code = "near-duplicate-episode" if pair.distance else "duplicate-episode"
        message = f"it {alike} {other}"
        if pair.is_told_apart:
            code = "contradictory-instruction"
            message += (
                f", but is told {_told(copy.instructions)} instead of {_told(first.instructions)}"
            )
        parts = [id(pair.first) in held_out, id(pair.copy) in held_out]
        if parts[0] != parts[1]:
            message += "; one of both is held out by train's default split"
        yield _of(pair, code, message)
        if parts[0] != parts[1]:
            where = ("held out", "trained on") if parts[1] else ("trained on", "held out")
            yield _of(pair, "split-leak", f"it is {where[0]}, its copy {other} is {where[1]}")


def _pairs(data: DataSummary) -> list[Pair]:
    exact = [*_exact(data)]
    known = {id(pair.copy) for pair in exact}
    pairs = exact + [pair for pair in _near(data) if id(pair.copy) not in known]
    if not data.is_relabelled:
        return pairs
    return [t for t in pairs if not (t.is_told_apart and t.first.seen == t.copy.seen)]


def _of(pair: Pair, code: str, message: str) -> Finding:
    return Finding(
        code=code, message=message, path=pair.copy.path, episode=pair.copy.episode.name,
        number=pair.distance,
    )  # fmt: skip


def _told(instructions: Sequence[str]) -> str:
    return " or ".join(map(repr, instructions)) or "nothing"


def _held_out(episodes: Sequence[EpisodeSummary]) -> set[int]:
    from simscaleai_core.data.windowed import held_out_positions

    config, found = TrainConfig(), set()
    for path in {e.path for e in episodes}:
        own = [e for e in episodes if e.path == path]
        chosen = held_out_positions(len(own), config.eval_fraction, config.seed)
        found |= {id(own[position]) for position in chosen}
    return found


def _exact(data: DataSummary) -> Iterator[Pair]:
    first: dict[bytes, list[EpisodeSummary]] = {}
    for each in data.episodes:
        if each.episode.length < 2:
            continue
        alike = first.setdefault(each.digest, [])
        pair = next((e for e in alike if _look_alike(e, each)), None)
        if pair is None:
            alike.append(each)
        else:
            yield Pair(first=pair, copy=each, distance=0.0)


def _look_alike(one: EpisodeSummary, other: EpisodeSummary) -> bool:
    return all(
        np.abs(camera.mean.astype(np.float32) - other.cameras[key].mean).max() < _GREY_LEVELS
        for key, camera in one.cameras.items()
        if key in other.cameras
    )


def _near(data: DataSummary) -> Iterator[Pair]:
    """Find near copies: sorted along the direction of most variance, only neighbours can be."""
    episodes = [e for e in data.episodes if e.episode.length >= _LEAST]
    if len(episodes) < 2:
        return
    vectors = _vectors(data, episodes)
    along = _along(vectors)
    order = np.argsort(along, kind="stable")
    vectors, along = vectors[order], along[order]
    squares = np.square(vectors).sum(axis=1)
    found: dict[int, tuple[int, float]] = {}
    for start in range(0, len(order), _BLOCK):
        stop = min(start + _BLOCK, len(order))
        end = int(np.searchsorted(along, along[stop - 1] + NEAR * 1.5, side="right"))
        apart = (
            squares[start:stop, None]
            + squares[start:end]
            - 2 * vectors[start:stop] @ vectors[start:end].T
        )
        for i, j in zip(*np.nonzero(apart < 2 * NEAR**2), strict=True):
            early, late = sorted((int(order[start + i]), int(order[start + j])))
            distance = float(np.linalg.norm(vectors[start + i] - vectors[start + j])) / np.sqrt(2)
            if early < late and distance < NEAR and early < found.get(late, (late, 0.0))[0]:
                found[late] = early, max(distance, 1e-9)
    for late, (early, distance) in sorted(found.items()):
        one, other = episodes[early], episodes[late]
        shorter, longer = sorted((one.episode.length, other.episode.length))
        if longer - shorter <= _LENGTHS * longer and _look_alike(one, other):
            yield Pair(first=one, copy=other, distance=distance)


def _vectors(data: DataSummary, episodes: Sequence[EpisodeSummary]) -> npt.NDArray[np.float32]:
    """Return the tracks `[E, N]`, scaled so that observations and actions weigh the same.

    The distance of two vectors is the root of the sum of both mean squares.
    """
    spread, std = data.scale.spread, data.totals.std
    extent = np.maximum(spread, 2 * std)  # a rare fall of a cube is part of the range
    largest = np.concatenate(
        [np.full(s.stop - s.start, extent[s].max()) for s in data.columns.values()]
    )
    moves = (spread > 0) & (std >= _STILL) & (extent > _SMALL * largest)
    tracks = np.array([e.track for e in episodes], dtype=np.float32)  # [E, P, W]
    tracks *= np.divide(spread, extent, out=np.zeros_like(spread), where=moves).astype(np.float32)
    is_action = np.zeros(len(moves), dtype=np.bool_)
    is_action[data.action_columns] = True
    parts = [
        tracks[:, :, moves & chosen].reshape(len(tracks), -1) for chosen in (~is_action, is_action)
    ]
    scaled = [part / np.sqrt(part.shape[1]) for part in parts if part.shape[1]]
    return np.concatenate(scaled, axis=1) if scaled else np.zeros((len(tracks), 1), np.float32)


def _along(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the vectors' places along their direction of most variance `[E]`."""
    centred = vectors - vectors.mean(axis=0)
    direction = centred[int(np.square(centred).sum(axis=1).argmax())]
    for _ in range(5):
        direction = centred.T @ (centred @ direction)
        direction = direction / max(float(np.linalg.norm(direction)), 1e-12)
    found: npt.NDArray[np.float32] = centred @ direction
    return found
