"""Several sources with the same keys, read as one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy.typing as npt
from attrs import evolve

from simscaleai_core.data.source import Episode, EpisodeSource, Key

_OPTIONAL = ("rewards", "timestamps", "timestep_instructions")


def joined(sources: Sequence[EpisodeSource]) -> list[EpisodeSource]:
    """Return sources, those with the same keys as one, in the order of the first of each.

    Keys are the same if name, shape and kind are.
    """
    alike: dict[Any, list[EpisodeSource]] = defaultdict(list)
    for source in sources:
        keys = (*source.observations, source.actions)
        alike[frozenset((k.name, k.shape, k.kind) for k in keys)].append(source)
    return [group[0] if len(group) == 1 else JoinedSource(group) for group in alike.values()]


def names_of(source: EpisodeSource) -> Mapping[tuple[Path, str], str]:
    """Return the name of each episode, by where it lies: the file or folder, and its name there."""
    if isinstance(source, JoinedSource):
        return source.names
    return {(Path(source.path), episode.name): episode.name for episode in source.episodes}


class JoinedSource:
    """The episodes of several sources, one source after the other; an `EpisodeSource` itself.

    An episode whose name occurs twice has that of its file before it.

    Args:
        sources: At least one; all have the same keys.
    """

    def __init__(self, sources: Sequence[EpisodeSource]) -> None:
        self._sources = sources
        self._places = [(s, e) for s, each in enumerate(sources) for e in range(len(each.episodes))]
        self.path: Path = sources[0].path.parent
        self.observations: Sequence[Key] = sources[0].observations
        self.actions: Key = sources[0].actions
        self.episodes: Sequence[Episode] = list(_with_own_names(sources))
        self.names: Mapping[tuple[Path, str], str] = {
            (Path(sources[s].path), sources[s].episodes[e].name): episode.name
            for (s, e), episode in zip(self._places, self.episodes, strict=True)
        }
        self.fps: float | None = _common(sources, "fps")
        self.env: str | None = _common(sources, "env")

    def read(self, episode: int, key: str, start: int, stop: int) -> npt.NDArray[Any]:
        """Return the timesteps from `start` to before `stop` of a key, as its source does."""
        source, number = self._places[episode]
        return self._sources[source].read(number, key, start, stop)

    def __getattr__(self, name: str) -> Any:
        """Return ``rewards`` and the like, if every source has it."""
        if name in _OPTIONAL and all(hasattr(source, name) for source in self._sources):
            return partial(self._called, name)
        raise AttributeError(name)

    def _called(self, method: str, episode: int) -> Any:
        source, number = self._places[episode]
        return getattr(self._sources[source], method)(number)


def _with_own_names(sources: Sequence[EpisodeSource]) -> Iterator[Episode]:
    counts = Counter(episode.name for source in sources for episode in source.episodes)
    for source in sources:
        for episode in source.episodes:
            is_known = counts[episode.name] > 1
            yield (
                evolve(episode, name=f"{source.path.name}/{episode.name}") if is_known else episode
            )


def _common(sources: Sequence[EpisodeSource], name: str) -> Any:
    values = {getattr(source, name, None) for source in sources}
    return values.pop() if len(values) == 1 else None
