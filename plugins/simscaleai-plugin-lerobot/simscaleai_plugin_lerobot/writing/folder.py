"""A LeRobot folder from an `EpisodeSource`.

::

    meta/info.json  stats.json  tasks.parquet  simscaleai.json
    meta/episodes/chunk-000/file-000.parquet    a row an episode, with its statistics
    data/chunk-000/file-000.parquet             a row a timestep; images as PNG in it

T: timesteps of an episode.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from simscaleai_core.data.location import Location
from simscaleai_core.data.source import EpisodeSource
from simscaleai_plugin_lerobot.detect import INFO
from simscaleai_plugin_lerobot.meta.extra import EXTRA
from simscaleai_plugin_lerobot.writing.data_files import (
    CHUNK_SIZE,
    DATA_PATH,
    FILE_MIB,
    DataFiles,
)
from simscaleai_plugin_lerobot.writing.features import Column, bookkeeping, columns_of, scalar
from simscaleai_plugin_lerobot.writing.rows import rows_of
from simscaleai_plugin_lerobot.writing.statistics import Table, as_lists, combined

_EPISODES_PATH = "meta/episodes/chunk-000/file-000.parquet"
_ASSUMED_FPS = 20.0
_REWARD, _SUCCESS = "next.reward", "next.success"

Labels = dict[str, npt.NDArray[Any]]


def write_folder(source: EpisodeSource, folder: Path, location: Location) -> None:
    """Write all files of a data set.

    Args:
        source: The episodes.
        folder: Where to; it is empty.
        location: What it is going to be called, for messages.

    Raises:
        DataError: If the source cannot be read, or there is nothing in it.
    """
    if not source.episodes:
        raise location.error("at least one episode", "none", "Record an episode first")
    fps = _rate_of(source)
    columns = columns_of(source, location)
    tasks = {text: n for n, text in enumerate(dict.fromkeys(_texts(source)))}
    rows, index, statistics = 0, [], []
    labels: Labels = {}
    with DataFiles(folder) as files:
        for number, episode in enumerate(source.episodes):
            told = episode.instructions or ("",)
            labels = _labels(source, number, fps)
            labels |= _indices(number, episode.length, rows, tasks[told[0]])
            made = rows_of(source, number, columns, labels)
            chunk, file = files.write(made.table)
            places = (number, list(told), episode.length, chunk, file, rows, rows + episode.length)
            rows += episode.length
            index.append(dict(zip(_INDEX, places, strict=True)))
            statistics.append(made.statistics)
    names = {column.feature: column.entry() for column in columns}
    features = {**names, **_label_features(labels), **bookkeeping()}
    _write_json(folder / INFO, _info(source, fps, features, rows, len(tasks)))
    _write_meta(source, folder, columns, tasks)
    _write_index(folder / _EPISODES_PATH, index, statistics)
    total = {name: as_lists(combined(s[name] for s in statistics)) for name in statistics[0]}
    _write_json(folder / "meta" / "stats.json", total)


_INDEX = (
    "episode_index", "tasks", "length", "data/chunk_index", "data/file_index",
    "dataset_from_index", "dataset_to_index",
)  # fmt: skip


def _rate_of(source: EpisodeSource) -> float:
    """Return the timesteps per second: as the source says, or from its timestamps."""
    fps = getattr(source, "fps", None)
    if fps:
        return float(fps)
    measure = getattr(source, "timestamps", None)
    times_s = None if measure is None else measure(0)
    if times_s is not None and len(times_s) > 1:
        step_s = float(np.median(np.diff(times_s)))
        if step_s > 0:
            return round(1 / step_s, 3)
    warnings.warn(
        f"the data does not say how many timesteps it has a second: {_ASSUMED_FPS:g} are assumed "
        f"@ {source.path}.",
        stacklevel=4,
    )
    return _ASSUMED_FPS


def _texts(source: EpisodeSource) -> list[str]:
    return [text for episode in source.episodes for text in episode.instructions or ("",)]


def _labels(source: EpisodeSource, episode: int, fps: float) -> Labels:
    """Return time, reward and success of each timestep, as far as the source has them."""
    length = source.episodes[episode].length
    measure, reward = (getattr(source, name, None) for name in ("timestamps", "rewards"))
    times_s = None if measure is None else measure(episode)
    if times_s is None:
        times_s = np.arange(length) / fps
    labels = {"timestamp": (times_s - times_s[0]).astype(np.float32)}
    rewards = None if reward is None else reward(episode)
    if rewards is not None:
        labels[_REWARD] = np.asarray(rewards, dtype=np.float32).reshape(length)
    if all(e.success is not None for e in source.episodes):
        success = np.zeros(length, dtype=bool)
        success[-1] = bool(source.episodes[episode].success)
        labels[_SUCCESS] = success
    return labels


def _indices(episode: int, length: int, first_row: int, task: int) -> Labels:
    steps = np.arange(length)
    return {
        "frame_index": steps,
        "episode_index": np.full(length, episode),
        "index": first_row + steps,
        "task_index": np.full(length, task),
    }


def _label_features(labels: Labels) -> dict[str, Any]:
    kinds = {_REWARD: "float32", _SUCCESS: "bool"}
    return {name: scalar(dtype) for name, dtype in kinds.items() if name in labels}


def _info(
    source: EpisodeSource, fps: float, features: Mapping[str, Any], rows: int, num_tasks: int
) -> dict[str, Any]:
    count = len(source.episodes)
    return {
        "codebase_version": "v3.0",
        "robot_type": None,
        "total_episodes": count,
        "total_frames": rows,
        "total_tasks": num_tasks,
        "chunks_size": CHUNK_SIZE,
        "data_files_size_in_mb": FILE_MIB,
        "video_files_size_in_mb": 200,
        "fps": int(fps) if fps == int(fps) else fps,
        "splits": {"train": f"0:{count}"},
        "data_path": DATA_PATH,
        "video_path": None,
        "features": features,
    }


def _write_meta(
    source: EpisodeSource, folder: Path, columns: Sequence[Column], tasks: Mapping[str, int]
) -> None:
    parts: dict[str, list[int]] = {}
    for number, episode in enumerate(source.episodes):
        for name in sorted(episode.filter_keys):
            parts.setdefault(name, []).append(number)
    extra = {
        "env": getattr(source, "env", None),
        "keys": {column.feature: column.key.name for column in columns[:-1]},
        "filter_keys": parts,
        "tasks_are_alternatives": True,
    }
    _write_json(folder / EXTRA, extra)
    _write_tasks(folder / "meta" / "tasks.parquet", tasks)


def _write_tasks(path: Path, tasks: Mapping[str, int]) -> None:
    """Write the tasks as a table of pandas, whose index is the text."""
    kinds = {"task_index": ("int64", "int64"), "task": ("unicode", "object")}
    about = [
        {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": stored,
         "metadata": None} for name, (kind, stored) in kinds.items()
    ]  # fmt: skip
    pandas = {"index_columns": ["task"], "column_indexes": [], "columns": about}
    table = pa.table({"task_index": list(tasks.values()), "task": list(tasks)})
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(pandas)}), path)


def _write_index(
    path: Path, index: Sequence[dict[str, Any]], statistics: Sequence[Mapping[str, Table]]
) -> None:
    rows = [
        {
            **place,
            **{
                f"stats/{f}/{k}": v.tolist() for f, table in found.items() for k, v in table.items()
            },
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }
        for place, found in zip(index, statistics, strict=True)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def _write_json(path: Path, table: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(table, indent=4, ensure_ascii=False), "utf-8")
