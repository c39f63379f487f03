"""Columns of the parquet files, each file read once for all its columns of numbers.

N: rows of a file, T: timesteps of an episode.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from attrs import frozen

from simscaleai_core.data.location import Location
from simscaleai_plugin_lerobot.meta.episodes import EpisodeIndex
from simscaleai_plugin_lerobot.parquet import (
    RESTORE,
    check_columns,
    open_parquet,
    read_errors_at,
)
from simscaleai_plugin_lerobot.reading.held import Held

Array = npt.NDArray[Any]

_EPISODE = "episode_index"
_HELD_FILES = 2


@frozen(eq=False)
class _File:
    """One open parquet file."""

    opened: pq.ParquetFile
    """The file."""
    spans: Mapping[int, tuple[int, int]]
    """First row of each episode and the one after its last, by the episode's number."""
    columns: dict[str, Array]
    """What was read of it: `[N, ...]` by feature."""


class Tables:
    """The rows of all episodes.

    Args:
        index: Where they are.
        shapes: Shape of one timestep of every feature of numbers that is read whole.
        together: Those of them that are read as soon as a file is opened, all at once.
    """

    def __init__(
        self, index: EpisodeIndex, shapes: Mapping[str, tuple[int, ...]], together: Sequence[str]
    ) -> None:
        self._index = index
        self._shapes = dict(shapes)
        self._together = tuple(together)
        self._files: Held[Path, _File] = Held(_HELD_FILES)
        self._first_rows = np.full(len(index.numbers), -1)

    def read(self, episode: int, name: str) -> Array:
        """Return all timesteps of a feature of numbers.

        Args:
            episode: Position of the episode.
            name: Name of the feature.

        Returns:
            The numbers `[T, ...]`.

        Raises:
            DataError: If they are not there or do not fit.
        """
        start, stop = self.rows(episode)
        file = self._file(episode)
        if name not in file.columns:
            path = self._index.data.path(episode)
            location = Location(path=path, episode=self._index.name(episode))
            file.columns.update(self._columns(file.opened, (name,), location))
        return file.columns[name][start:stop]

    def rows(self, episode: int) -> tuple[int, int]:
        """Return the first row of an episode in its file and the one after its last.

        The file is not read again for that.

        Raises:
            DataError: If the file does not hold as many as the index says.
        """
        length = int(self._index.lengths[episode])
        if self._first_rows[episode] < 0:
            path = self._index.data.path(episode)
            spans = self._file(episode).spans
            start, stop = spans.get(int(self._index.numbers[episode]), (0, 0))
            if stop - start != length:
                raise Location(path=path, episode=self._index.name(episode)).error(
                    f"{length} rows, as the index of episodes says", str(stop - start), RESTORE
                )
            self._first_rows[episode] = start
        first = int(self._first_rows[episode])
        return first, first + length

    def close(self) -> None:
        """Close what is open; it is opened again when something is read."""
        self._files.clear()

    def _file(self, episode: int) -> _File:
        path = self._index.data.path(episode)
        return self._files.get(path, lambda: self._read(path, episode))

    def _read(self, path: Path, episode: int) -> _File:
        location = Location(path=path, episode=self._index.name(episode))
        opened = open_parquet(path, location)
        present = set(opened.schema_arrow.names)  # one that is missing may not be wanted
        names = (_EPISODE, *(name for name in self._together if name in present))
        columns = self._columns(opened, names, location)
        return _File(opened, _spans(columns.pop(_EPISODE)[:, 0], location), columns)

    def _columns(
        self, opened: pq.ParquetFile, names: Sequence[str], location: Location
    ) -> dict[str, Array]:
        check_columns(opened, names, location)
        with read_errors_at(location):
            table = opened.read(columns=list(names), use_threads=False)
        return {
            name: numbers_of(table[name], self._shapes.get(name, (1,)), location.at(key=name))
            for name in names
        }


def _spans(numbers: Array, location: Location) -> dict[int, tuple[int, int]]:
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    found = numbers[starts].tolist()
    if len(set(found)) < len(found):
        raise location.at(key=_EPISODE).error(
            "the rows of each episode in one piece", "rows of several in turn", RESTORE
        )
    stops = [*starts[1:].tolist(), len(numbers)]
    return dict(zip(found, zip(starts.tolist(), stops, strict=True), strict=True))


def numbers_of(column: pa.ChunkedArray, shape: Iterable[int], location: Location) -> Array:
    """Return a column as one array, without a loop over its rows.

    Args:
        column: Numbers, or lists of them, nested as deep as the shape has dimensions.
        shape: Shape of one row; (1,) may be stored as a number.
        location: Where it is, for messages.

    Returns:
        The numbers `[N, ...]`.

    Raises:
        DataError: If a row is missing or has another shape, or is no number.
    """
    count, shape = len(column), tuple(shape)
    values = column.combine_chunks()
    values = pa.concat_arrays(values.chunks) if isinstance(values, pa.ChunkedArray) else values
    for size in shape if shape != (1,) or _is_list(values.type) else ():
        if not _is_list(values.type) or not _is_regular(values, size):
            raise location.error(f"{list(shape)} in every row", _found(values), RESTORE)
        values = _storage(values).flatten()
    flat = _storage(values)
    kind = flat.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise location.error("numbers", str(kind), RESTORE)
    if flat.null_count:
        raise location.error("a number in every row", f"{flat.null_count} without one", RESTORE)
    array: Array = flat.to_numpy(zero_copy_only=False).reshape(count, *shape)
    return array


def _storage(values: pa.Array) -> pa.Array:
    """Return what an array is stored as; importing `datasets` registers types of its own."""
    return values.storage if isinstance(values, pa.ExtensionArray) else values


def _is_list(kind: pa.DataType) -> bool:
    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _is_regular(values: pa.Array, size: int) -> bool:
    """Return whether every list of an array has a length."""
    values = _storage(values)
    if values.null_count:
        return False
    if pa.types.is_fixed_size_list(values.type):
        return bool(values.type.list_size == size)
    return bool((np.diff(values.offsets.to_numpy()) == size).all())


def _found(values: pa.Array) -> str:
    kind = str(_storage(values).type)
    return f"{values.null_count} empty rows" if values.null_count else f"{kind} of another length"
