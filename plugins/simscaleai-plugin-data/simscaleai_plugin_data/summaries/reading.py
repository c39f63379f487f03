"""The numbers of one episode, in memory while it is looked at.

T: timesteps, W: columns: the low-dimensional observation keys in their order, then the actions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from attrs import frozen

from simscaleai_core.data.location import Location
from simscaleai_core.data.source import Episode, EpisodeSource, Key

Array = npt.NDArray[np.float64]


@frozen(kw_only=True, eq=False)
class Member:
    """One episode of one source."""

    source: EpisodeSource
    """Where it is stored."""
    position: int
    """Which of the source's episodes it is."""

    @property
    def episode(self) -> Episode:
        """Return what the source says of it."""
        return self.source.episodes[self.position]

    @property
    def path(self) -> Path:
        """Return the source's path."""
        return Path(self.source.path)


def numeric_keys(source: EpisodeSource) -> tuple[Key, ...]:
    """Return the low-dimensional observation keys, and the actions last."""
    return (*(k for k in source.observations if k.kind == "low-dimensional"), source.actions)


def columns_of(keys: Sequence[Key]) -> dict[str, slice]:
    """Return the columns of each key."""
    stops = np.cumsum([key.width for key in keys]).tolist()
    return {k.name: slice(stop - k.width, stop) for k, stop in zip(keys, stops, strict=True)}


def read_matrix(member: Member, keys: Sequence[Key], most: int | None = None) -> Array:
    """Read the numbers of an episode.

    Args:
        member: The episode.
        keys: Low-dimensional keys to read.
        most: Timesteps to read, from the first; all of them if None.

    Returns:
        The numbers as they are stored `[T, W]`; some may not be finite.

    Raises:
        DataError: If they cannot be read, or have another shape than the key says.
    """
    length = member.episode.length if most is None else min(most, member.episode.length)
    return np.concatenate([_read_key(member, key, length) for key in keys], axis=1)


def _read_key(member: Member, key: Key, length: int) -> Array:
    values = np.asarray(member.source.read(member.position, key.name, 0, length))
    if len(values) != length or values.size != length * key.width:
        location = Location(path=member.path, episode=member.episode.name, key=key.name)
        raise location.error(
            f"{length} timesteps of {list(key.shape)}", str(list(values.shape)),
            "Remove or repair the episode",
        )  # fmt: skip
    return values.reshape(length, key.width).astype(np.float64)


def is_sound(matrix: Array) -> npt.NDArray[np.bool_]:
    """Return where numbers are finite, also as float32; the shape is that of `matrix`."""
    with np.errstate(over="ignore"):
        return np.isfinite(matrix.astype(np.float32))


def filled(matrix: Array) -> Array:
    """Return the matrix with each column's median where a number is not finite."""
    sound = is_sound(matrix)
    if sound.all():
        return matrix
    found = matrix.copy()
    for column in np.flatnonzero(~sound.all(axis=0)):
        kept = found[sound[:, column], column]
        found[~sound[:, column], column] = np.median(kept) if kept.size else 0.0
    return found


def optional_series(member: Member, name: str) -> Array | None:
    """Return what an optional method of the source gives of an episode, such as ``timestamps``.

    Returns:
        The numbers `[T]`, or None if the source has none.
    """
    method = getattr(member.source, name, None)
    values = None if method is None else method(member.position)
    return None if values is None else np.asarray(values, dtype=np.float64).reshape(-1)


def names_of(keys: Mapping[str, slice], column: int) -> tuple[str, int]:
    """Return the key that a column belongs to, and its dimension of that key."""
    name = next(n for n, span in keys.items() if span.start <= column < span.stop)
    return name, column - keys[name].start
