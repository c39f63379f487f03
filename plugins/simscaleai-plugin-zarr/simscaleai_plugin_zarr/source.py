"""The episodes of a replay buffer, as they are stored.

T: timesteps that are read.
"""

from __future__ import annotations

import warnings
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simscaleai_core.data.frames import FloatRange, as_frames, float_range, frame_shape, kind_of
from simscaleai_core.data.location import Location, listed
from simscaleai_core.data.source import ACTIONS, Episode, Key
from simscaleai_plugin_zarr.arrays import StoredArray, check_held, check_readable, read_description
from simscaleai_plugin_zarr.detect import EPISODE_ENDS
from simscaleai_plugin_zarr.files import Files, open_files
from simscaleai_plugin_zarr.reading import Reader

TIMESTAMPS = "timestamp"
"""Array of ``data/`` with the seconds at which robots recorded: no observation."""

_DATA = "data/"
_NUM_LOOKED_AT = 16
_RECORDED = "replay_buffer.zarr"
"""Name that Diffusion Policy's recorder of real robots gives, beside a folder of videos."""


class ZarrSource:
    """Episodes of a folder or zip file with ``data/*`` and ``meta/episode_ends``.

    Args:
        path: The folder or zip file.
        action_key: Array of ``data/`` with the actions; several, with commas, are joined.

    Raises:
        DataError: If it is missing, damaged or not sound, or has no such array.
    """

    def __init__(self, path: str | PathLike[str], action_key: str = "action") -> None:
        self.path = Path(path)
        self._action_names = action_key.split(",")
        with open_files(self.path) as (files, root):
            self._reader = Reader(self.path, root)
            descriptions = {name.rpartition("/")[0]: name for name in files.arrays()}
            self._ends = self._read_ends(files, descriptions)
            self._arrays, left_out = self._described(files, descriptions)
            self._check_lengths()
            self._check_actions(left_out)
            self._check_stored(files)
        self.observations: Sequence[Key] = [
            _key(name, array)
            for name, array in self._arrays.items()
            if name not in {*self._action_names, TIMESTAMPS}
        ]
        self.actions = self._actions()
        lengths = np.diff(self._ends, prepend=0).tolist()
        self.episodes: Sequence[Episode] = [
            Episode(name=_name(e), length=n) for e, n in enumerate(lengths)
        ]
        self._ranges: dict[str, FloatRange] = {}
        self._report(left_out)

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that are read."""
        if not self.path.is_dir():
            return (self.path,)
        return tuple(sorted(p for p in self.path.rglob("*") if p.is_file()))

    def read(self, episode: int, key: str, start: int, stop: int) -> npt.NDArray[Any]:
        """Return the timesteps from `start` to before `stop` of a key.

        Args:
            episode: Position in `episodes`.
            key: Name of an observation key, or ``"actions"``.
            start: First timestep.
            stop: The timestep after the last.

        Returns:
            Numbers `[T, ...]` in the units of the data; images uint8 `[T, H, W, C]`; depth
            `[T, H, W]`.

        Raises:
            DataError: If it cannot be read.
        """
        length = self.episodes[episode].length
        first = int(self._ends[episode]) - length
        rows = (first + start, first + min(stop, length))
        if key != ACTIONS:
            return self._rows(key, *rows)
        parts = [self._rows(name, *rows) for name in self._action_names]
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)

    def timestamps(self, episode: int) -> npt.NDArray[Any] | None:
        """Return the times [s] of an episode's timesteps as recorded `[T]`, or None if none are.

        Args:
            episode: Position in `episodes`.
        """
        if TIMESTAMPS not in self._arrays:
            return None
        length = self.episodes[episode].length
        return self.read(episode, TIMESTAMPS, 0, length).reshape(length)

    def close(self) -> None:
        """Close the files; they are opened again when they are needed."""
        self._reader.close()

    def _rows(self, name: str, start: int, stop: int) -> npt.NDArray[Any]:
        array = self._arrays[name]
        values = self._reader.rows(array, start, stop, partial(self._where, name))
        kind = kind_of(array.shape, values.dtype)
        if kind == "low-dimensional":
            return values[:, None] if values.ndim == 1 else values
        if kind == "depth":
            return values.reshape(len(values), *frame_shape(array.shape)[1:])
        scale = self._range(name) if values.dtype.kind == "f" else "byte"
        try:
            return as_frames(values, scale)
        except ValueError as error:
            expected = "frames from 0 to 1" if scale == "unit" else "frames from 0 to 255"
            remedy = "Repair the frames, or store them as uint8"
            raise self._where(name, start).error(expected, str(error), remedy) from error

    def _range(self, name: str) -> FloatRange:
        """Return the range of an array of floating-point frames, from the first of episodes."""
        if name not in self._ranges:
            firsts = [0, *self._ends[:-1].tolist()]
            chosen = firsts[:: -(-len(firsts) // _NUM_LOOKED_AT)]
            array, where = self._arrays[name], partial(self._where, name)
            frames = [self._reader.rows(array, row, row + 1, where) for row in chosen]
            self._ranges[name] = float_range(np.concatenate(frames))
        return self._ranges[name]

    def _where(self, key: str, row: int | None = None) -> Location:
        """Return where a row of an array is, for messages."""
        if row is None or key == EPISODE_ENDS:
            return Location(path=self.path, key=key)
        return Location(path=self.path, key=key, episode=_name(bisect_right(self._ends, row)))

    def _read_ends(self, files: Files, descriptions: Mapping[str, str]) -> npt.NDArray[np.int64]:
        where = partial(self._where, EPISODE_ENDS)
        if EPISODE_ENDS not in descriptions:
            raise where().error("the ends of the episodes", "no such array", "Check the path")
        array = read_description(files, descriptions[EPISODE_ENDS], where())
        if array.dtype.kind not in "iu" or len(array.shape) != 1:
            found = f"{list(array.shape)} of {array.type_name}"
            raise where().error("whole numbers [E]", found, "Write it again")
        stored = check_readable(files, array, where)
        check_held({EPISODE_ENDS: array.shape[0] * 8}, stored, where())
        ends = self._reader.rows(array, 0, array.shape[0], where).astype(np.int64)
        if not len(ends):
            raise where().error("at least one episode", "none", "Record episodes")
        steps = np.diff(ends, prepend=0)
        if (steps <= 0).any():
            place = int((steps <= 0).argmax())
            before = int(ends[place - 1]) if place else 0
            found = f"{ends[place]} after {before} at position {place}"
            raise where().error("ends that increase", found, "Repair or write them again")
        return ends

    def _described(
        self, files: Files, descriptions: Mapping[str, str]
    ) -> tuple[dict[str, StoredArray], dict[str, str]]:
        """Return the arrays that are read, by name, and why others are not."""
        arrays, left_out = {}, {}
        for path in sorted(descriptions):
            name = path.removeprefix(_DATA)
            if not path.startswith(_DATA):
                if path != EPISODE_ENDS:
                    left_out[path] = "not in data/"
                continue
            array = read_description(files, descriptions[path], self._where(name))
            if array.dtype.kind == "V":
                left_out[name] = f"of {array.type_name}, no real numbers"
            elif name == ACTIONS and name not in self._action_names:
                left_out[name] = "named as the actions, which are read from another array"
            elif not array.shape or kind_of(array.shape, array.dtype) is None:
                left_out[name] = f"of shape {list(array.shape)}, neither numbers nor frames"
            else:
                arrays[name] = array
        return arrays, left_out

    def _check_lengths(self) -> None:
        for name, array in self._arrays.items():
            if array.shape[0] != self._ends[-1]:
                raise self._where(name).error(
                    f"{self._ends[-1]} timesteps, as {EPISODE_ENDS} says", f"{array.shape[0]}",
                    "Write the arrays with equal lengths, or repair the ends",
                )  # fmt: skip

    def _check_actions(self, left_out: Mapping[str, str]) -> None:
        location = Location(path=self.path)
        for name in self._action_names:
            if name in left_out:
                raise self._where(name).error("actions", f"an array {left_out[name]}", _NAME_ONE)
            if name not in self._arrays:
                raise location.error(
                    f"an array {_DATA}{name} with the actions", f"only {listed(self._arrays)}",
                    _NAME_ONE, fact="no action is stored",
                )  # fmt: skip
            if _key(name, self._arrays[name]).kind != "low-dimensional":
                raise self._where(name).error("actions", "frames", _NAME_ONE)

    def _check_stored(self, files: Files) -> None:
        """Check that every chunk is there, and that numbers are in proportion to what is stored."""
        held, stored = {}, 0
        for name, array in self._arrays.items():
            num_bytes = check_readable(files, array, partial(self._where, name))
            key = _key(name, array)
            if key.kind == "low-dimensional":
                held[name] = array.shape[0] * key.width * max(array.dtype.itemsize, 4)
                stored += num_bytes
        check_held(held, stored, Location(path=self.path))

    def _actions(self) -> Key:
        keys = [_key(name, self._arrays[name]) for name in self._action_names]
        if len(keys) == 1:
            return Key(name=ACTIONS, shape=keys[0].shape, dtype=keys[0].dtype)
        dtype = np.result_type(*(key.dtype for key in keys))
        return Key(name=ACTIONS, shape=(sum(key.width for key in keys),), dtype=dtype.name)

    def _report(self, left_out: Mapping[str, str]) -> None:
        reasons = [f"{name!r} ({left_out[name]})" for name in sorted(left_out)]
        if self.path.name == _RECORDED and (self.path.parent / "videos").is_dir():
            reasons.append("the videos beside it (frames are read from arrays of data/)")
        if reasons:
            warnings.warn(f"left out: {', '.join(reasons)} @ {self.path}.", stacklevel=3)


_NAME_ONE = "Name the array of data/ that holds them with action_key"


def _name(episode: int) -> str:
    return f"episode_{episode}"


def _key(name: str, array: StoredArray) -> Key:
    kind = kind_of(array.shape, array.dtype) or "low-dimensional"
    is_flat = kind == "low-dimensional"
    shape = (array.shape[1:] or (1,)) if is_flat else frame_shape(array.shape)
    return Key(name=name, shape=shape, kind=kind, dtype=array.dtype.name)
