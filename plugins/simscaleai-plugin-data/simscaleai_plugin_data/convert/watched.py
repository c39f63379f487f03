"""A source that tells how far it has been read, whoever reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy.typing as npt

from simscaleai_core.data.source import EpisodeSource


class Watched:
    """A source that tells how far reading is; the same `EpisodeSource` otherwise.

    Args:
        source: The source.
        advance: Called with the number of episodes that were begun since it was called last.
    """

    def __init__(self, source: EpisodeSource, advance: Callable[[int], object]) -> None:
        self._source, self._advance, self._num_begun = source, advance, 0

    def __getattr__(self, name: str) -> Any:
        """Return what the source has."""
        return getattr(self._source, name)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as the source: what another process reads is not counted."""
        return _itself, (self._source,)

    def read(self, episode: int, key: str, start: int, stop: int) -> npt.NDArray[Any]:
        """Return the timesteps from `start` to before `stop` of a key."""
        if episode >= self._num_begun:
            self._advance(episode + 1 - self._num_begun)
            self._num_begun = episode + 1
        return self._source.read(episode, key, start, stop)


def _itself(source: EpisodeSource) -> EpisodeSource:
    return source
