"""The rows of one episode, and their statistics.

T: timesteps of the episode.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from attrs import frozen

from simscaleai_core.data.location import Location, finite_rows
from simscaleai_core.data.source import EpisodeSource
from simscaleai_plugin_lerobot.writing.arrays import column_of, image_column, png_of
from simscaleai_plugin_lerobot.writing.features import Column
from simscaleai_plugin_lerobot.writing.statistics import (
    FrameStatistics,
    Table,
    sampled_timesteps,
    statistics_of,
)

_BLOCK_FRAMES = 64


@frozen(kw_only=True)
class EpisodeRows:
    """The rows of one episode."""

    table: pa.Table
    """A row a timestep, a column a feature."""
    statistics: dict[str, Table]
    """Statistics by feature; depth has none."""


def rows_of(
    source: EpisodeSource,
    episode: int,
    columns: list[Column],
    labels: dict[str, npt.NDArray[Any]],
) -> EpisodeRows:
    """Read an episode and make its rows.

    Args:
        source: The episodes.
        episode: Position of the episode.
        columns: What is written of the source.
        labels: What is written besides, `[T]` by feature.

    Returns:
        The rows.

    Raises:
        DataError: If it cannot be read, or does not fit the columns.
    """
    length = source.episodes[episode].length
    location = Location(path=source.path, episode=source.episodes[episode].name)
    made, statistics = {}, {}
    for column in columns:
        here = location.at(key=column.key.name)
        if column.dtype == "image":
            made[column.feature], statistics[column.feature] = _images(
                source, episode, column, length
            )
            continue
        values = source.read(episode, column.key.name, 0, length)
        values = _checked(values, column, length, here)
        made[column.feature] = column_of(values)
        if column.key.kind != "depth":
            statistics[column.feature] = statistics_of(values)
    for name, numbers in labels.items():
        made[name] = column_of(numbers[:, None])
        statistics[name] = statistics_of(numbers[:, None])
    return EpisodeRows(table=pa.table(made), statistics=statistics)


def _checked(
    values: npt.NDArray[Any], column: Column, length: int, location: Location
) -> npt.NDArray[Any]:
    """Return numbers in the type of their column, if they fit it."""
    if len(values) != length or values[0].size != column.key.width:
        found = str(list(values.shape))
        raise location.error(f"{[length, *column.shape]}", found, "Remove or repair the episode")
    finite_rows(values, column.key.width, location)
    cast = values.astype(column.dtype)
    if cast.dtype.kind != "f" and not np.array_equal(cast, values):
        raise location.error(
            f"{column.dtype}, as in the first episode", str(values.dtype),
            "Give every episode the same types",
        )  # fmt: skip
    return cast.reshape(length, *column.shape)


def _images(
    source: EpisodeSource, episode: int, column: Column, length: int
) -> tuple[pa.Array, Table]:
    counts, sampled = FrameStatistics(column.shape[2]), sampled_timesteps(length)
    blobs: list[bytes] = []
    for start in range(0, length, _BLOCK_FRAMES):
        stop = min(start + _BLOCK_FRAMES, length)
        frames = source.read(episode, column.key.name, start, stop)
        blobs += png_of(frames)
        chosen = sampled[(sampled >= start) & (sampled < stop)] - start
        if len(chosen):
            counts.add(frames[chosen])
    return image_column(blobs), counts.table()
