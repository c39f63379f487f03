"""What another layout does not hold: the source compared with what was written of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from simscaleai_core.data.location import Location, listed
from simscaleai_core.data.source import Episode, EpisodeSource

_FACTS = {"fps": "timesteps per second", "env": "name of the environment"}
_LOST: dict[str, Callable[[Episode, Episode], bool]] = {
    "names": lambda before, after: before.name != after.name,
    "instructions": lambda before, after: before.instructions != after.instructions,
    "success": lambda before, after: before.success != after.success,
    "filter keys": lambda before, after: not before.filter_keys <= after.filter_keys,
}


def not_held(source: EpisodeSource, written: EpisodeSource) -> list[str]:
    """Return what of a source cannot be read from what was written of it, in words.

    Args:
        source: What was converted.
        written: The result, as its reader gives it.

    Returns:
        One entry for each thing; none if all is there.

    Raises:
        DataError: If an episode is missing or has another length, which no layout explains.
    """
    lengths = [episode.length for episode in source.episodes]
    found = [episode.length for episode in written.episodes]
    if lengths != found:
        raise Location(path=written.path).error(
            f"{len(lengths)} episodes of {sum(lengths)} timesteps, as was converted",
            f"{len(found)} of {sum(found)}",
            "Report this to the author of the writer",
        )
    return [*_keys(source, written), *_episodes(source, written), *_facts(source, written)]


def _keys(source: EpisodeSource, written: EpisodeSource) -> Iterator[str]:
    there = {key.name: key for key in (*written.observations, written.actions)}
    keys = (*source.observations, source.actions)
    pairs = [(key, there[key.name]) for key in keys if key.name in there]
    yield from (f"key {key.name!r}" for key in keys if key.name not in there)
    for key, found in pairs:
        if (key.kind, key.shape or (1,)) != (found.kind, found.shape or (1,)):
            before, after = (f"{k.kind} {list(k.shape)}" for k in (key, found))
            yield f"the shape of {key.name!r} ({before} became {after})"
        if key.dimensions and key.dimensions != found.dimensions:
            yield f"the names of the dimensions of {key.name!r}"
    narrowed = defaultdict(list)
    for key, found in pairs:
        if not np.can_cast(key.dtype, found.dtype, "safe"):
            narrowed[key.dtype, found.dtype].append(key.name)
    for (before, after), names in narrowed.items():
        yield f"the number type of {listed(names)} ({before} became {after})"


def _episodes(source: EpisodeSource, written: EpisodeSource) -> Iterator[str]:
    pairs = list(zip(source.episodes, written.episodes, strict=True))
    for name, is_lost in _LOST.items():
        number = sum(is_lost(before, after) for before, after in pairs)
        if number:
            yield f"{name} of {number} episode{'s' if number > 1 else ''}"
    told = [_told(source, position) for position in range(len(pairs))]
    number = sum(t is not None and t != _told(written, n) for n, t in enumerate(told))
    if number:
        yield f"which timestep has which instruction in {number} episode{'s' if number > 1 else ''}"


def _told(source: EpisodeSource, position: int) -> list[str] | None:
    """Return the instruction of each timestep, where several are stored so."""
    ask: Any = getattr(source, "timestep_instructions", None)
    if ask is None or len(source.episodes[position].instructions) < 2:
        return None
    found = ask(position)
    return None if found is None else list(found)


def _facts(source: EpisodeSource, written: EpisodeSource) -> Iterator[str]:
    for name, words in _FACTS.items():
        known = getattr(source, name, None)
        if known is not None and getattr(written, name, None) != known:
            yield words
    if _has(source, "rewards") and not _has(written, "rewards"):
        yield "rewards"
    if _has(source, "timestamps") and not _has(written, "timestamps") and not _is_regular(source):
        yield "recorded timestamps"


def _has(source: EpisodeSource, numbers: str) -> bool:
    """Return whether the first episode has rewards or timestamps."""
    read = getattr(source, numbers, None)
    return read is not None and bool(source.episodes) and read(0) is not None


def _is_regular(source: EpisodeSource) -> bool:
    """Return whether the timestamps say nothing that the timesteps per second do not."""
    fps = getattr(source, "fps", None)
    read: Any = getattr(source, "timestamps", None)
    for number, episode in enumerate(source.episodes):
        times_s = read(number)
        if fps is None or times_s is None:
            return False
        expected_s = np.arange(episode.length) / fps
        if not np.allclose(times_s - times_s[0], expected_s, rtol=0, atol=0.01 / fps):
            return False
    return True
