"""The episodes of a LeRobot folder.

E: episodes, T: timesteps that are read, D: dimensions of a key.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simscaleai_core.contracts import Statistics
from simscaleai_core.data.location import Location, quoted
from simscaleai_core.data.source import Episode, Key
from simscaleai_core.errors import DataError
from simscaleai_plugin_lerobot.detect import root_of
from simscaleai_plugin_lerobot.meta.depth import distances
from simscaleai_plugin_lerobot.meta.episodes import EpisodeIndex, read_index
from simscaleai_plugin_lerobot.meta.extra import read_extra
from simscaleai_plugin_lerobot.meta.info import read_info, read_json
from simscaleai_plugin_lerobot.meta.keys import keys_of
from simscaleai_plugin_lerobot.meta.tasks import read_tasks
from simscaleai_plugin_lerobot.reading.embedded import EmbeddedFrames
from simscaleai_plugin_lerobot.reading.labels import episodes_of
from simscaleai_plugin_lerobot.reading.tables import Tables
from simscaleai_plugin_lerobot.reading.videos import RESTORE, Videos

Array = npt.NDArray[Any]

_REWARD, _TASK, _TIME = "next.reward", "task_index", "timestamp"
_NUMBERS = "low-dimensional"
_REGULAR = 0.05
"""Timestamps that are this near to a multiple of the timestep are that multiple [timesteps]."""


class LeRobotSource:
    """An `EpisodeSource` over a LeRobot folder, v3 or v2. Nothing is downloaded or written.

    Args:
        path: The folder, or its ``meta/info.json``.
        action_key: Feature of the actions; ``action``, or else ``actions``, if not given. Several,
            with commas between them, are joined.

    Raises:
        DataError: If the folder is no data set, or its ``meta`` is damaged.
    """

    def __init__(self, path: str | PathLike[str], action_key: str | None = None) -> None:
        self.path = root_of(Path(path))
        self._info = info = read_info(self.path)
        self._extra = extra = read_extra(self.path)
        self._index = read_index(info)
        keys = keys_of(info, action_key, extra.keys)
        self._features = keys.features
        self.observations: Sequence[Key] = keys.observations
        self.actions = keys.actions
        self.fps = info.fps
        self.env = extra.env
        self._keys = {key.name: key for key in (*keys.observations, keys.actions)}
        together = [
            feature.name
            for key in self._keys.values() if key.kind == _NUMBERS
            for feature in self._features[key.name]
        ]  # fmt: skip
        if self._index.videos:
            together.append(_TIME)  # says where the frames are
        shapes = {name: feature.shape for name, feature in info.features.items()}
        self._tables = Tables(self._index, shapes, together)
        self._embedded = EmbeddedFrames(self.path, self._index, self._tables)
        self._videos = Videos(info.fps)
        self._clock = _Clock(self._tables, self._index, info.fps)
        self._tasks = read_tasks(info)
        self.episodes: Sequence[Episode] = episodes_of(info, self._index, extra, self._tasks)

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """Paths of all that is read."""
        meta = sorted(p for p in (self.path / "meta").rglob("*") if p.is_file())
        videos = (path for files in self._index.videos.values() for path in files.paths)
        return (*meta, *self._index.data.paths, *videos)

    def read(self, episode: int, key: str, start: int, stop: int) -> Array:
        """Return the timesteps from `start` to before `stop` of a key. See `EpisodeSource`."""
        if self._keys[key].kind != _NUMBERS:
            return self.take(episode, key, np.arange(start, stop))
        parts = [self._tables.read(episode, f.name)[start:stop] for f in self._features[key]]
        with suppress(DataError):  # which is raised when frames are asked for
            if self._index.videos:
                self._clock.learn(episode)  # while the file is at hand
        if len(parts) > 1:
            parts = [np.hstack([part.reshape(len(part), -1) for part in parts])]
        return self._typed(episode, key, parts[0])

    def take(self, episode: int, key: str, timesteps: npt.NDArray[np.int64]) -> Array:
        """Return some timesteps of a key; frames between them are not decoded if that is shorter.

        Args:
            episode: Position in `episodes`.
            key: Name of an observation key, or ``"actions"``.
            timesteps: Which, int64 `[T]`, sorted.

        Returns:
            The same as `read` of each of them.

        Raises:
            DataError: If one cannot be read.
        """
        (feature, *_), wanted = self._features[key], self._keys[key]
        if wanted.kind == _NUMBERS:
            return self.read(episode, key, 0, self.episodes[episode].length)[timesteps]
        if feature.dtype != "video":
            frames = self._embedded.take(episode, feature, wanted, timesteps)
            return self._typed(episode, key, frames) if wanted.kind == "depth" else frames
        location, start_s = self._video_of(episode, key)
        times_s = self._clock.times(episode)[timesteps] + start_s
        frames = self._videos.take(times_s, wanted, location)
        if wanted.kind == "depth":
            return distances(frames, feature.details)
        return frames

    def timestamps(self, episode: int) -> npt.NDArray[np.float64]:
        """Return the times [s] of an episode's timesteps as recorded, `[T]`.

        Args:
            episode: Position in `episodes`.
        """
        return self._tables.read(episode, _TIME)[:, 0].astype(np.float64)

    def rewards(self, episode: int) -> Array | None:
        """Return the rewards `[T]` of an episode, or None if the data has none.

        Args:
            episode: Position in `episodes`.
        """
        if _REWARD not in self._info.features:
            return None
        return self._tables.read(episode, _REWARD)[:, 0].copy()

    def timestep_instructions(self, episode: int) -> list[str] | None:
        """Return the instruction of each timestep `[T]`: what the frames' ``task_index`` says.

        None if those of an episode are other words for the same.

        Args:
            episode: Position in `episodes`.
        """
        if self._extra.tasks_are_alternatives:
            return None
        indices = self._tables.read(episode, _TASK)[:, 0].tolist()
        return [self._tasks.get(int(index), "") for index in indices]

    def stored_statistics(self) -> dict[str, Statistics]:
        """Return what ``meta/stats.json`` says of the actions and of keys that are no matrices."""
        path = self.path / "meta" / "stats.json"
        table = read_json(path) if path.is_file() else {}
        found = {}
        for name, key in self._keys.items():
            entries: list[Any] = [table.get(feature.name) for feature in self._features[name]]
            # of a matrix, lerobot keeps the statistics of its columns
            if key.kind == _NUMBERS and len(key.shape) == 1 and all(entries):
                found[name] = _statistics(entries, key, Location(path=path, key=name))
        return found

    def check_videos(self, episodes: Iterable[int], keys: Iterable[str]) -> None:
        """Check that the videos of some episodes and keys are there, before they are needed.

        Args:
            episodes: Positions in `episodes`.
            keys: Names of observation keys; those that are no videos are passed over.

        Raises:
            DataError: If one is missing.
        """
        cameras = [key for key in keys if self._features[key][0].dtype == "video"]
        seen = set()
        for episode in episodes if cameras else ():
            for key in cameras:
                location, _ = self._video_of(episode, key)
                if location.path not in seen and not location.path.is_file():
                    raise location.error("a video", "no such file", RESTORE, fact="missing video")
                seen.add(location.path)

    def close(self) -> None:
        """Close all files; they are opened again when something is read."""
        for part in (self._tables, self._embedded, self._videos):
            part.close()

    def _typed(self, episode: int, key: str, values: Array) -> Array:
        """Return a copy of numbers, in the type that the features declare."""
        dtype = np.dtype(self._keys[key].dtype)
        typed = values.astype(dtype)
        if dtype.kind in "biu" and not np.array_equal(typed, values):
            path, name = self._index.data.path(episode), self._index.name(episode)
            raise Location(path=path, episode=name, key=key).error(
                f"numbers of {dtype}, as info.json says", f"others, of {values.dtype}",
                "Correct its dtype there",
            )  # fmt: skip
        return typed

    def _video_of(self, episode: int, key: str) -> tuple[Location, float]:
        """Return the video of an episode, and when the episode begins in it [s]."""
        feature, name = self._features[key][0].name, self._index.name(episode)
        files = self._index.videos.get(feature)
        start_s = float("nan") if files is None else float(files.start_s[episode])
        if files is None or not np.isfinite(start_s):
            raise Location(path=self.path / "meta", episode=name, key=key).error(
                f"columns 'videos/{feature}/...' in the index of episodes", "none",
                "Copy the folder again, whole, or leave the key out with obs_keys",
            )  # fmt: skip
        return Location(path=files.path(episode), episode=name, key=key), start_s


class _Clock:
    """When the timesteps of episodes are, without reading their files again.

    Nearly always timestep k is at k / fps. Only other times are kept.
    """

    def __init__(self, tables: Tables, index: EpisodeIndex, fps: float) -> None:
        self._tables = tables
        self._fps = fps
        self._known = np.zeros(len(index.lengths), dtype=bool)
        self._lengths = index.lengths
        self._own: dict[int, npt.NDArray[np.float64]] = {}

    def learn(self, episode: int) -> None:
        """Look at the timestamps of an episode, unless that was done."""
        if self._known[episode]:
            return
        times_s = self._tables.read(episode, _TIME)[:, 0].astype(np.float64)
        off = np.abs(times_s * self._fps - np.arange(len(times_s)))
        if not (off < _REGULAR).all():
            self._own[episode] = times_s
        self._known[episode] = True

    def times(self, episode: int) -> npt.NDArray[np.float64]:
        """Return the times of an episode since its start [s], `[T]`."""
        self.learn(episode)
        regular = self._own.get(episode)
        return np.arange(self._lengths[episode]) / self._fps if regular is None else regular


def _statistics(entries: Sequence[Any], key: Key, location: Location) -> Statistics:
    parts = {}
    for ours, theirs in (("mean", "mean"), ("std", "std"), ("low", "min"), ("high", "max")):
        try:
            given = [np.ravel(entry.get(theirs)).astype(np.float64) for entry in entries]
            values = np.concatenate(given)
        except (AttributeError, TypeError, ValueError):
            values = np.empty(0)
        if len(values) != key.width:
            expected = f"{key.width} numbers under {theirs!r}"
            raise location.error(expected, quoted(str(entries)), "Remove the file")
        parts[ours] = tuple(values.tolist())
    return Statistics(**parts)
