"""The index of episodes: how long each is, and in which files and where its rows and frames are.

v3 keeps it in ``meta/episodes/*/*.parquet``, v2 in ``meta/episodes.jsonl``, where the files follow
from the number of the episode.

E: episodes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from attrs import evolve, frozen

from simscaleai_core.data.location import Location
from simscaleai_plugin_lerobot.meta.info import INTACT, Info
from simscaleai_plugin_lerobot.parquet import read_table

Numbers = npt.NDArray[np.int64]

_PARTS = ("episode_index", "length", "tasks")
_DATA = ("data/chunk_index", "data/file_index")
_ROWS = ("dataset_from_index", "dataset_to_index")
_MAX_INDEX = 2**31


@frozen(kw_only=True, eq=False)
class Files:
    """Files that together hold something of all episodes."""

    paths: Sequence[Path]
    """The files, each once."""
    of_episode: Numbers
    """Position of each episode's file, `[E]`."""
    start_s: npt.NDArray[np.float64]
    """When each episode begins in its file [s], `[E]`; 0 in parquet files."""

    def path(self, episode: int) -> Path:
        """Return the file of an episode, given by its position."""
        return self.paths[int(self.of_episode[episode])]


@frozen(kw_only=True, eq=False)
class EpisodeIndex:
    """All episodes of a data set, in the order of their numbers."""

    numbers: Numbers
    """Number of each episode, `[E]`."""
    lengths: Numbers
    """Timesteps of each episode, `[E]`."""
    tasks: Sequence[Sequence[str]]
    """What each episode was told, `[E]`."""
    data: Files
    """The parquet files."""
    videos: Mapping[str, Files]
    """The videos by feature; one that the index does not place is not among them."""

    def name(self, episode: int) -> str:
        """Return the name of an episode, given by its position."""
        return f"episode_{self.numbers[episode]}"


def read_index(info: Info) -> EpisodeIndex:
    """Read and check the index of episodes.

    Args:
        info: The data set.

    Returns:
        The index.

    Raises:
        DataError: If it is missing, damaged, or does not fit `info`.
    """
    if info.has_shared_files:
        columns, location = _v3_columns(info)
    else:
        columns, location = _v2_columns(info)
    numbers = _whole(columns, "episode_index", location)
    order = np.argsort(numbers, kind="stable")
    columns = {name: _ordered(values, order) for name, values in columns.items()}
    numbers, lengths = (_whole(columns, name, location) for name in _PARTS[:2])
    if len(numbers) == 0 or len(np.unique(numbers)) < len(numbers) or lengths.min() < 1:
        raise location.error(
            "episodes, each once and of at least one timestep",
            f"{len(numbers)} rows, {len(np.unique(numbers))} different numbers", INTACT,
        )  # fmt: skip
    if info.num_episodes not in {None, len(numbers)}:
        raise location.error(
            f"{info.num_episodes} episodes, the total_episodes of info.json", str(len(numbers)),
            "Copy the folder again, or correct total_episodes", fact="the index of episodes",
        )  # fmt: skip
    place = _v3_places if info.has_shared_files else _v2_places
    data, videos = place(info, columns, numbers, location)
    tasks = [[str(t) for t in told or ()] for told in columns["tasks"]]
    return EpisodeIndex(numbers=numbers, lengths=lengths, tasks=tasks, data=data, videos=videos)


Columns = Mapping[str, Sequence[Any] | npt.NDArray[Any]]


def _v3_columns(info: Info) -> tuple[Columns, Location]:
    folder = info.root / "meta" / "episodes"
    paths = sorted(folder.glob("*/*.parquet"))
    if not paths:
        raise Location(path=folder).error("parquet files of episodes", "none", INTACT)
    cameras = [f.name for f in info.features.values() if f.dtype == "video"]
    places = [
        f"videos/{key}/{part}"
        for key in cameras
        for part in ("chunk_index", "file_index", "from_timestamp")
    ]
    required = (*_PARTS, *_DATA)
    tables = [read_table(path, required, optional=(*_ROWS, *places)) for path in paths]
    present = set.intersection(*(set(table.column_names) for table in tables))
    columns: dict[str, Any] = {
        name: np.concatenate([table[name].to_numpy() for table in tables])
        for name in sorted(present - {"tasks"})
    }
    columns["tasks"] = [tasks for table in tables for tasks in table["tasks"].to_pylist()]
    return columns, Location(path=paths[0] if len(paths) == 1 else folder)


def _v2_columns(info: Info) -> tuple[Columns, Location]:
    path = info.root / "meta" / "episodes.jsonl"
    rows = list(read_lines(path))
    return {name: [row.get(name) for row in rows] for name in _PARTS}, Location(path=path)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the tables in a file with one JSON table a line.

    Raises:
        DataError: If it is missing or damaged.
    """
    location = Location(path=path)
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        found = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise location.error("a JSON table a line", found, INTACT) from error
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError) as error:
            found = f"{error} in line {number}"
            raise location.error("a JSON table a line", found, INTACT) from error
        if isinstance(row, dict):
            yield row


def _ordered(values: Sequence[Any] | npt.NDArray[Any], order: Numbers) -> Any:
    return values[order] if isinstance(values, np.ndarray) else [values[i] for i in order]


def _whole(columns: Columns, name: str, location: Location) -> Numbers:
    """Return a column of whole numbers."""
    values = np.asarray(columns[name])
    if values.dtype.kind == "f" and np.isfinite(values).all():
        values = values.astype(np.int64)  # pandas keeps whole numbers as floats beside gaps
    good = values.dtype.kind in "iu" and (values >= 0).all() and (values < _MAX_INDEX).all()
    if not good and len(values):
        raise location.at(key=name).error(
            "whole numbers, for every episode", f"{values.dtype} {values[:3].tolist()}", INTACT
        )
    return values.astype(np.int64)


def _v3_places(
    info: Info, columns: Columns, numbers: Numbers, location: Location
) -> tuple[Files, dict[str, Files]]:
    if all(name in columns for name in _ROWS):
        first, last = (_whole(columns, name, location) for name in _ROWS)
        wrong = np.flatnonzero(last - first != _whole(columns, "length", location))
        if wrong.size:
            place = int(wrong[0])
            raise location.at(episode=f"episode_{numbers[place]}").error(
                f"{columns['length'][place]} rows, as its length says",
                f"rows {first[place]} to {last[place]}", INTACT,
            )  # fmt: skip
    data = _shared_files(columns, "data", location, info.data_file)
    videos = {}
    for feature in info.features.values():
        start = f"videos/{feature.name}/from_timestamp"
        if feature.dtype == "video" and start in columns:
            found = _shared_files(
                columns, f"videos/{feature.name}", location,
                lambda key=feature.name, **indices: info.video_file(key, **indices),
            )  # fmt: skip
            start_s = np.asarray(columns[start], dtype=np.float64)
            videos[feature.name] = evolve(found, start_s=start_s)
    return data, videos


def _shared_files(
    columns: Columns, prefix: str, location: Location, path: Callable[..., Path]
) -> Files:
    chunks, files = (
        _whole(columns, f"{prefix}/{part}", location) for part in ("chunk_index", "file_index")
    )
    pairs, of_episode = np.unique(chunks * _MAX_INDEX + files, return_inverse=True)
    paths = [
        path(chunk_index=int(pair // _MAX_INDEX), file_index=int(pair % _MAX_INDEX))
        for pair in pairs
    ]
    return Files(
        paths=paths, of_episode=of_episode.astype(np.int64), start_s=np.zeros(len(of_episode))
    )


def _v2_places(
    info: Info, columns: Columns, numbers: Numbers, location: Location
) -> tuple[Files, dict[str, Files]]:
    del columns, location
    own = np.arange(len(numbers))
    indices = [
        {"episode_chunk": n // info.chunk_size, "episode_index": n} for n in numbers.tolist()
    ]
    videos = {
        feature.name: Files(
            paths=[info.video_file(feature.name, **i) for i in indices],
            of_episode=own,
            start_s=np.zeros(len(own)),
        )
        for feature in info.features.values()
        if feature.dtype == "video"
    }
    paths = [info.data_file(**i) for i in indices]
    return Files(paths=paths, of_episode=own, start_s=np.zeros(len(own))), videos
