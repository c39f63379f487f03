"""The episodes of an HDF5 file or folder, whatever its layout.

T: timesteps that are read, H and W: pixels, C: channels.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from simscaleai_core.data.frames import as_frames, decoded
from simscaleai_core.data.location import Location
from simscaleai_core.data.source import ACTIONS, Episode, Key
from simscaleai_plugin_hdf5.layouts.files import data_files
from simscaleai_plugin_hdf5.layouts.index import indexed_structure
from simscaleai_plugin_hdf5.layouts.looking import Wanted
from simscaleai_plugin_hdf5.layouts.structure import Structure
from simscaleai_plugin_hdf5.reading.blobs import Blobs, blobs_of
from simscaleai_plugin_hdf5.reading.opening import OpenFiles
from simscaleai_plugin_hdf5.reading.timesteps import Timesteps
from simscaleai_plugin_hdf5.stored import FileLayout, StoredKey

Values = npt.NDArray[Any]

_SHARED_CHUNK_BYTES = 64 * 2**20


class HDF5Source:
    """Reads episodes in the layouts of `EpisodeWriter`, robomimic, ALOHA, Minari and D4RL.

    An `EpisodeSource`. The files are looked at when something of them is first asked for.

    Args:
        path: A file, or a folder of files of one layout, or of a Minari data set.
        keys: Observation keys to look at; all if not given. What is wrong with others is no fault.
        action_key: Name of the actions in an episode, such as ``"actions_abs"``, or a path such as
            ``"action_dict/rel_pos"``; what the layout calls them if not given.
        is_strict: Whether instructions that are damaged are an error; they are a warning if not.
        read_ahead: Whether small arrays are read while they are open anyway, for who then reads
            all of them; until `release`.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        keys: Collection[str] | None = None,
        action_key: str | None = None,
        is_strict: bool = True,
        read_ahead: bool = False,
    ) -> None:
        self.path = Path(path)
        self._wanted = Wanted(
            keys=None if keys is None else frozenset(keys),
            action_key=action_key,
            is_strict=is_strict,
        )
        self._read_ahead = read_ahead

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """The files, in natural order of their names."""
        return data_files(self.path)

    @cached_property
    def observations(self) -> Sequence[Key]:
        """The observation keys, sorted by name."""
        return tuple(stored.key for stored in self.layout.observations)

    @cached_property
    def actions(self) -> Key:
        """The actions."""
        return self.layout.actions.key

    @cached_property
    def episodes(self) -> Sequence[Episode]:
        """The episodes, in natural order of their names."""
        return tuple(stored.episode for stored in self.layout.episodes)

    @property
    def env(self) -> str | None:
        """Id of the environment that the data was recorded in, if it says so."""
        return self.layout.env

    @property
    def fps(self) -> float | None:
        """Timesteps per second, if the data says so."""
        return self.layout.fps

    @property
    def layout(self) -> FileLayout:
        """What the files hold, and where."""
        return self._structure.layout

    def read(self, episode: int, key: str, start: int, stop: int) -> Values:
        """Return the timesteps from `start` to before `stop` of a key.

        Args:
            episode: Position in `episodes`.
            key: Name of an observation key, or ``"actions"``.
            start: First timestep.
            stop: The timestep after the last.

        Returns:
            Low-dimensional: `[T, ...]` as stored. Image: uint8 `[T, H, W, C]`. Depth:
            `[T, H, W]` as stored.

        Raises:
            DataError: If it cannot be read.
        """
        stored = self._keys[key]
        ahead = self._from_ahead(stored, episode)
        if ahead is not None:
            return ahead[start:stop]
        location, first = self._location(episode, key), self.layout.episodes[episode].first
        values = self._reader(episode, stored, location).read(first + start, first + stop)
        return _converted(stored, values, location)

    def take(self, episode: int, key: str, timesteps: npt.NDArray[np.int64]) -> Values:
        """Return some timesteps of a key, each chunk of the file read once.

        Args:
            episode: Position in `episodes`.
            key: Name of an observation key, or ``"actions"``.
            timesteps: The timesteps, sorted, int64 `[T]`.

        Returns:
            What `read` returns of them.

        Raises:
            DataError: If they cannot be read.
        """
        stored, location = self._keys[key], self._location(episode, key)
        reader = self._reader(episode, stored, location)
        rows = timesteps + self.layout.episodes[episode].first
        parts: list[Any] = []
        for begin, end in _spans(rows, reader.chunk_steps):
            start, stop = int(rows[begin]), int(rows[end - 1]) + 1
            values: Any = reader.read(start, stop)
            is_all = stop - start == end - begin
            parts.append(values if is_all else values[rows[begin:end] - start])
        if isinstance(reader, Blobs):
            return _converted(stored, [blob for part in parts for blob in part], location)
        values = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return _converted(stored, values, location)

    def rewards(self, episode: int) -> Values | None:
        """Return the rewards `[T]` of an episode, or None if none are stored.

        Raises:
            DataError: If they cannot be read.
        """
        has_rewards = self.layout.episodes[episode].has_rewards
        return self._beside(episode, self.layout.rewards) if has_rewards else None

    def timestamps(self, episode: int) -> Values | None:
        """Return the times [s] of an episode's timesteps as recorded `[T]`, or None if none are.

        Raises:
            DataError: If they cannot be read.
        """
        name = self.layout.episodes[episode].times
        return self._beside(episode, (name,)).astype(np.float64) if name else None

    def timestep_instructions(self, episode: int) -> list[str] | None:
        """Return the instruction of each timestep `[T]`, or None if it is one for all of them."""
        place = self.layout.episodes[episode]
        stops = [*(start for start, _ in place.changes[1:]), place.episode.length]
        stretches = zip(place.changes, stops, strict=bool(place.changes))
        told = [text for (start, text), stop in stretches for _ in range(start, stop)]
        return told or None

    def _beside(self, episode: int, path: tuple[str, ...]) -> Values:
        """Return the numbers `[T]` of an array beside the actions."""
        place = self.layout.episodes[episode]
        location, length = self._location(episode, path[-1]), place.episode.length
        values = self._open.timesteps(place.file, (*place.group, *path), location).read(
            place.first, place.first + length
        )
        return np.asarray(values).reshape(length, -1)[:, 0]

    def release(self) -> None:
        """Let go of what was read ahead."""
        self._structure = attrs.evolve(self._structure, ahead=None)

    def close(self) -> None:
        """Close the files; they are opened again when they are needed."""
        if "_open" in self.__dict__:
            self._open.close()

    @cached_property
    def _structure(self) -> Structure:
        return indexed_structure(self.path, self.files, self._wanted, read_ahead=self._read_ahead)

    @cached_property
    def _keys(self) -> dict[str, StoredKey]:
        layout = self.layout
        return {**{s.key.name: s for s in layout.observations}, ACTIONS: layout.actions}

    @cached_property
    def _open(self) -> OpenFiles:
        shares_arrays = any(episode.first for episode in self.layout.episodes)
        return OpenFiles(self.layout.files, _SHARED_CHUNK_BYTES if shares_arrays else 0)

    def _reader(self, episode: int, stored: StoredKey, location: Location) -> Timesteps | Blobs:
        place = self.layout.episodes[episode]
        return self._open.timesteps(place.file, (*place.group, *stored.path), location)

    def _from_ahead(self, stored: StoredKey, episode: int) -> Values | None:
        structure = self._structure
        if structure.ahead is None:
            return None
        places = structure.places.get(stored.key.name)
        offset = places[episode] if places else -1
        if offset < 0:
            return None
        length = structure.layout.episodes[episode].episode.length
        shape = (length, *stored.step)
        found = np.frombuffer(structure.ahead, stored.dtype, math.prod(shape), offset)
        return found.reshape(shape)

    def _location(self, episode: int, key: str) -> Location:
        place = self.layout.episodes[episode]
        path = self.layout.files[place.file].path
        return Location(path=path, episode=place.episode.name, key=key)

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs: no open files, and nothing read ahead."""
        state = {name: value for name, value in self.__dict__.items() if name != "_open"}
        if "_structure" in state:
            state["_structure"] = attrs.evolve(self._structure, ahead=None)
        return state


def _converted(stored: StoredKey, values: Any, location: Location) -> Values:
    """Return timesteps as samples have them."""
    if stored.encoding == "numbers":
        return np.asarray(values)
    if stored.encoding == "depth":
        channels_last = values.ndim == 4 and values.shape[3] == 1
        if channels_last:
            return np.asarray(values[..., 0])
        return np.asarray(values[:, 0] if values.ndim == 4 else values)
    try:
        if stored.encoding == "encoded":
            frames = decoded(blobs_of(values))
        else:
            frames = as_frames(values, stored.scale)
    except ValueError as error:
        limit = 1 if stored.scale == "unit" else 255
        expected = "JPEG or PNG frames" if stored.encoding == "encoded" else f"0 to {limit}"
        raise location.error(expected, str(error), "Remove or repair the episode") from error
    return frames


def _spans(rows: npt.NDArray[np.int64], chunk_steps: int) -> list[tuple[int, int]]:
    # Sorted timesteps that are neighbours, or share a chunk, are worth one read.
    apart = (np.diff(rows) > 1) & (np.diff(rows // chunk_steps) > 0)
    starts = [0, *(np.flatnonzero(apart) + 1).tolist()]
    return list(zip(starts, [*starts[1:], len(rows)], strict=True))
