"""A source whose numbers are read once, however often they are asked for.

T: timesteps that are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy.typing as npt

from simscaleai_core.data.source import EpisodeSource

_MAX_BYTES = 512 * 2**20

Values = npt.NDArray[Any]


def kept(sources: Sequence[EpisodeSource], max_bytes: int = _MAX_BYTES) -> list[EpisodeSource]:
    """Return sources that keep the numbers of whole episodes that were read of them.

    Args:
        sources: The demonstrations.
        max_bytes: What is kept of all of them together, at most; the rest is read again [bytes].
    """
    room = [max_bytes]
    return [cast("EpisodeSource", _Kept(source, room)) for source in sources]


class _Kept:
    """An `EpisodeSource` with all members of another.

    Args:
        source: The other.
        room: What may still be kept, shared by several sources [bytes].
    """

    def __init__(self, source: EpisodeSource, room: list[int]) -> None:
        self._source = source
        self._room = room
        self._values: dict[tuple[int, str], Values] = {}
        self._frames = {k.name for k in source.observations if k.kind != "low-dimensional"}

    def __getattr__(self, name: str) -> Any:
        """Return what the source itself has."""
        return getattr(self._source, name)

    def read(self, episode: int, key: str, start: int, stop: int) -> Values:
        """Return the timesteps of a key `[T, ...]`; those that are kept are not to be changed."""
        values = self._values.get((episode, key))
        if values is not None:
            return values[start:stop]
        values = self._source.read(episode, key, start, stop)
        is_whole = start == 0 and stop == self._source.episodes[episode].length
        if is_whole and key not in self._frames and values.nbytes <= self._room[0]:
            self._room[0] -= values.nbytes
            values = values.view()
            values.flags.writeable = False
            self._values[episode, key] = values
        return values
