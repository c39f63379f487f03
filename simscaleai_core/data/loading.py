"""Read what of an `EpisodeSource` a dataset keeps: chosen episodes and keys, packed in one matrix.

One matrix, because a batch is then one gather whatever the number of keys::

    matrix [N, W]    row: a timestep, episode after episode; columns: the observation keys in
                     their order, then the actions
"""

from __future__ import annotations

import difflib
import itertools
import json
import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import torch
from attrs import frozen
from torch import Tensor

from simscaleai_core.data.images import FrameStore
from simscaleai_core.data.location import Location, finite_rows, listed, quoted
from simscaleai_core.data.options import WindowOptions
from simscaleai_core.data.progress import told
from simscaleai_core.data.source import ACTIONS, Episode, EpisodeSource, Key
from simscaleai_core.errors import ConfigError

_BLOCK_ROWS = 65536
_RANGE = re.compile(r"(\d*):(\d*)\Z")


@frozen(kw_only=True, eq=False)
class Loaded:
    """Everything that was read; a dataset and its splits share one."""

    source: EpisodeSource
    """Where it came from."""
    episodes: tuple[Episode, ...]
    """The chosen episodes, in the order of the data."""
    observations: tuple[Key, ...]
    """The chosen observation keys, with names and shapes as samples have them."""
    actions: Key
    """The actions."""
    matrix: Tensor
    """The packed low-dimensional numbers, float32 `[N, W]`."""
    offsets: npt.NDArray[np.int64]
    """First row of each episode, and the number of rows at the end; `[E + 1]`."""
    language: tuple[tuple[str, ...], ...] | None
    """The instructions of each episode, which its timesteps take in turn, so that one for each
    timestep is that timestep's; at least one, or None if they were not asked for."""
    frames: FrameStore
    """Where images and depth come from."""

    @property
    def packed(self) -> tuple[Key, ...]:
        """Return the low-dimensional keys, the actions last: the columns of the matrix."""
        return (*(k for k in self.observations if k.kind == "low-dimensional"), self.actions)


def load(source: EpisodeSource, options: WindowOptions) -> Loaded:
    """Choose episodes and keys, and read what is held in memory.

    Args:
        source: The data.
        options: What to read of it.

    Returns:
        What was read.

    Raises:
        ConfigError: If an option names what the data does not have.
        DataError: If the data cannot be read, or holds what is not finite.
    """
    positions = chosen_episodes(source, options)
    keys = chosen_keys(source, options)  # by their names in the data
    names = {key.name: options.rename.get(key.name, key.name) for key in keys}
    episodes = tuple(source.episodes[p] for p in positions)
    offsets = np.concatenate(([0], np.cumsum([e.length for e in episodes], dtype=np.int64)))
    packed = [*(k for k in keys if k.kind == "low-dimensional"), source.actions]
    frames = [k for k in keys if k.kind != "low-dimensional"]
    store = FrameStore(source, positions, offsets, {names[k.name]: k for k in frames})
    store.fill(options.cache_images_gib)
    return Loaded(
        source=source,
        episodes=episodes,
        observations=tuple(_named(k, names[k.name]) for k in keys),
        actions=_named(source.actions, ACTIONS),
        matrix=_packed_matrix(source, positions, packed, offsets),
        offsets=offsets,
        language=tuple(_told(source, p) for p in positions) if options.include_language else None,
        frames=store,
    )


def chosen_episodes(source: EpisodeSource, options: WindowOptions) -> list[int]:
    """Return the positions of the episodes that the options leave, in the order of the data.

    Raises:
        ConfigError: If one that is named is not there, or none is left.
    """
    found = _named_episodes(source, options.episodes)
    episodes = source.episodes
    if options.filter_key is not None:
        known = sorted({name for e in episodes for name in e.filter_keys})
        if options.filter_key not in known:
            _refuse(source, f"unknown filter_key {options.filter_key!r}", known)
        found = [p for p in found if options.filter_key in episodes[p].filter_keys]
    if options.only_successes:
        found = [p for p in found if episodes[p].success]
    if options.exclude_from is not None:
        left_out = _excluded(source, Path(options.exclude_from))
        found = [p for p in found if episodes[p].name not in left_out]
    if not found:
        raise ConfigError(
            f"no episode is left of {len(episodes)}: expected at least one that episodes, "
            f"filter_key, only_successes and exclude_from leave @ {source.path}. Choose less "
            "strictly."
        )
    return found


def chosen_keys(source: EpisodeSource, options: WindowOptions) -> list[Key]:
    """Return the observation keys that the options name, as the data has them.

    Raises:
        ConfigError: If `rename` names a key that is not there, or two keys get one name.
        DataError: If `obs_keys` names a key that is not there, or there is none.
    """
    present = {key.name: key for key in source.observations}
    for name in options.rename:
        if name not in present:
            _refuse(source, f"unknown key {name!r} in rename", present)
    names = {options.rename.get(name, name): key for name, key in present.items()}
    if len(names) < len(present) or ACTIONS in names:
        raise ConfigError(
            f"rename: expected a name of its own for each key, got {dict(options.rename)} for "
            f"{listed(present)} @ {source.path}. Choose other names."
        )
    if options.obs_keys is None:
        depth = [name for name in sorted(names) if names[name].kind == "depth"]
        if depth:
            warnings.warn(
                f"depth is left out unless obs_keys names it: {listed(depth)} @ {source.path}.",
                stacklevel=4,
            )
        wanted = [name for name in sorted(names) if name not in depth]
    else:
        wanted = list(dict.fromkeys(options.obs_keys))
    location = Location(path=source.path)
    if not wanted:
        raise location.error("at least one observation key", "none", "Record observations")
    for name in wanted:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            remedy = f"Did you mean {near[0]!r}" if near else "Choose obs_keys from these"
            fact = f"unknown observation key {quoted(name)}"
            raise location.at(key=name).error("a key of the data", listed(names), remedy, fact=fact)
    return [names[name] for name in wanted]


def _named_episodes(source: EpisodeSource, wanted: str | tuple[int | str, ...] | None) -> list[int]:
    count = len(source.episodes)
    if wanted is None:
        return list(range(count))
    if isinstance(wanted, str):
        span = _RANGE.match(wanted)
        if span is None:
            wanted = tuple(wanted.split(","))
        else:
            return list(range(count))[slice(*(int(n) if n else None for n in span.groups()))]
    places = {episode.name: place for place, episode in enumerate(source.episodes)}
    found = set()
    for entry in wanted:
        place = places.get(str(entry), int(entry) if str(entry).isdigit() else -1)
        if not 0 <= place < count:
            _refuse(source, f"unknown episode {entry!r}", places)
        found.add(place)
    return sorted(found)


def _excluded(source: EpisodeSource, path: Path) -> set[str]:
    """Return the episodes of this data that a file of findings leaves out."""
    location = Location(path=path)
    try:
        table = json.loads(path.read_text("utf-8"))["exclude"]
        named = {Path(data).resolve(): set(names) for data, names in table.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise location.error(
            "a file of 'simscale data check --exclude'", str(error) or type(error).__name__,
            "Write it again with that command",
        ) from error  # fmt: skip
    return named.get(Path(source.path).resolve(), set())


def _refuse(source: EpisodeSource, fact: str, known: Iterable[str]) -> None:
    raise ConfigError(f"{fact}: expected one of {listed(known)} @ {source.path}.")


def _told(source: EpisodeSource, position: int) -> tuple[str, ...]:
    """Return the instruction of each timestep where the data has it, or those of the episode."""
    episode, ask = source.episodes[position], getattr(source, "timestep_instructions", None)
    if len(episode.instructions) < 2 or ask is None:
        return episode.instructions or ("",)
    found = tuple(ask(position) or ())
    if found and len(found) != episode.length:
        here, wanted = Location(path=source.path, episode=episode.name), episode.length
        raise here.error(f"{wanted} instructions, as timesteps", str(len(found)), "Repair them")
    return found or episode.instructions


def _named(key: Key, name: str) -> Key:
    shape = (key.width,) if key.kind == "low-dimensional" else key.shape
    return attrs.evolve(key, name=name, shape=shape)


def _packed_matrix(
    source: EpisodeSource,
    positions: Sequence[int],
    packed: Sequence[Key],
    offsets: npt.NDArray[np.int64],
) -> Tensor:
    width = sum(key.width for key in packed)
    try:
        matrix = np.empty((int(offsets[-1]), width), dtype=np.float32)
    except MemoryError as error:
        found = f"{int(offsets[-1]) * width * 4 / 2**30:.1f} GiB"
        location = Location(path=source.path)
        raise location.error("data that fits in memory", found, "Choose fewer obs_keys") from error
    ends = np.cumsum([0, *(key.width for key in packed)]).tolist()
    columns = [slice(a, b) for a, b in itertools.pairwise(ends)]
    with np.errstate(over="ignore"):
        for number, position in enumerate(told(positions, "episodes", len(positions))):
            rows = matrix[offsets[number] : offsets[number + 1]]
            for key, column in zip(packed, columns, strict=True):
                rows[:, column] = _rows_of(source, position, key)
    _check_finite(source, positions, packed, offsets, matrix)
    return torch.from_numpy(matrix)


def _rows_of(source: EpisodeSource, position: int, key: Key) -> npt.NDArray[Any]:
    length = source.episodes[position].length
    values = source.read(position, key.name, 0, length)
    if len(values) != length or values.size != length * key.width:
        raise _location(source, position, key).error(
            f"{length} timesteps of {list(key.shape)}", str(list(values.shape)),
            "Remove or repair the episode",
        )  # fmt: skip
    return values.reshape(length, key.width)


def _check_finite(
    source: EpisodeSource,
    positions: Sequence[int],
    packed: Sequence[Key],
    offsets: npt.NDArray[np.int64],
    matrix: npt.NDArray[np.float32],
) -> None:
    """Read the first episode again that has a number that is not finite, to say what and where."""
    for start in range(0, len(matrix), _BLOCK_ROWS):
        finite = np.isfinite(matrix[start : start + _BLOCK_ROWS]).all(axis=1)
        if not finite.all():
            row = start + int(finite.argmin())
            position = positions[int(np.searchsorted(offsets, row, side="right")) - 1]
            for key in packed:
                rows = _rows_of(source, position, key)
                finite_rows(rows, key.width, _location(source, position, key))


def _location(source: EpisodeSource, position: int, key: Key) -> Location:
    return Location(path=source.path, episode=source.episodes[position].name, key=key.name)
