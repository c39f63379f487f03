"""Frames that lie in the parquet files: images as PNG or JPEG bytes, and arrays of numbers.

T: timesteps that are asked for, H and W: pixels, C: channels.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from simscaleai_core.data.frames import as_frames
from simscaleai_core.data.location import Location
from simscaleai_core.data.source import Key
from simscaleai_plugin_lerobot.meta.episodes import EpisodeIndex
from simscaleai_plugin_lerobot.meta.info import Feature
from simscaleai_plugin_lerobot.parquet import (
    RESTORE,
    check_columns,
    open_parquet,
    read_errors_at,
)
from simscaleai_plugin_lerobot.reading.held import Held
from simscaleai_plugin_lerobot.reading.pages import PagedColumn, Unreadable
from simscaleai_plugin_lerobot.reading.pictures import decoded_pictures
from simscaleai_plugin_lerobot.reading.tables import Tables, numbers_of

Array = npt.NDArray[Any]
Groups = Held[tuple[Path, int, str], pa.ChunkedArray]
"""Columns of row groups, by file, row group and feature."""

_HELD_BYTES = 256 * 2**20
_HELD_FILES = 32


class EmbeddedFrames:
    """The frames in the parquet files.

    Args:
        root: The folder of the data set.
        index: Where the episodes are.
        tables: The open files.
    """

    def __init__(self, root: Path, index: EpisodeIndex, tables: Tables) -> None:
        self._root = root
        self._index = index
        self._tables = tables
        self._files: Held[Path, _OpenFile] = Held(_HELD_FILES)
        self._groups: Groups = Held(_HELD_BYTES, _size_of)

    def take(self, episode: int, feature: Feature, key: Key, timesteps: Array) -> Array:
        """Return some frames of an episode.

        Args:
            episode: Position of the episode.
            feature: What they are stored as.
            key: What they are read as.
            timesteps: Which, int64 `[T]`, sorted.

        Returns:
            Images uint8 `[T, H, W, C]`; depth `[T, H, W]` as stored.

        Raises:
            DataError: If one is missing or cannot be decoded.
        """
        path, name = self._index.data.path(episode), feature.name
        location = Location(path=path, episode=self._index.name(episode), key=key.name)
        rows = self._tables.rows(episode)[0] + timesteps
        file = self._files.get(path, lambda: _OpenFile(path, location))
        check_columns(file.parquet, (name,), location)
        if not feature.is_camera:
            cells = file.cells(name, rows, location, self._groups)
            values = numbers_of(cells, feature.shape, location)
            if key.kind == "image":
                return np.array(as_frames(values))
            return values.reshape(len(values), *key.shape[1:])
        try:
            blobs = file.blobs(name, rows)
        except Unreadable:
            cells = file.cells(name, rows, location, self._groups)
            blobs = [self._blob(cell, location) for cell in cells.to_pylist()]
        try:
            return _distances(blobs) if key.kind == "depth" else decoded_pictures(blobs)
        except (OSError, ValueError) as error:
            raise location.error("images as PNG or JPEG", str(error), RESTORE) from error

    def close(self) -> None:
        """Close what is open; it is opened again when something is read."""
        self._files.clear()
        self._groups.clear()

    def _blob(self, cell: Any, location: Location) -> bytes:
        """Return the bytes of an image; of one that lies beside the parquet files, its file's."""
        content, path = (
            (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
        )
        if isinstance(content, bytes):
            return content
        file = self._root / str(path)
        if not (path and file.is_file()):
            raise location.error("the bytes of an image", f"the path {path!r}", RESTORE)
        return file.read_bytes()


class _OpenFile:
    """One open parquet file, and what of it is kept.

    Args:
        path: The file.
        location: What is read of it, for messages.

    Raises:
        DataError: If it is missing or damaged.
    """

    def __init__(self, path: Path, location: Location) -> None:
        self.parquet = open_parquet(path, location)
        """The file, as pyarrow reads it."""
        with read_errors_at(location):
            self._bytes = pa.OSFile(str(path))
        metadata = self.parquet.metadata
        sizes = [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]
        self._edges = np.concatenate(([0], np.cumsum(sizes)))
        self._path = path
        self._columns: dict[tuple[int, str], PagedColumn] = {}

    def blobs(self, name: str, rows: Array) -> list[bytes]:
        """Return the bytes of images from their pages alone.

        Args:
            name: Name of the feature.
            rows: Rows of the file, sorted.

        Returns:
            The bytes.

        Raises:
            Unreadable: If the column has to be read by pyarrow.
        """
        found = []
        for group, places in self._by_group(rows):
            if (group, name) not in self._columns:
                path, metadata = f"{name}.bytes", self.parquet.metadata
                self._columns[group, name] = PagedColumn(self._bytes, metadata, group, path)
            found += self._columns[group, name].values(places)
        return found

    def cells(self, name: str, rows: Array, location: Location, groups: Groups) -> pa.ChunkedArray:
        """Return the cells of a column, from the row groups that hold them.

        Args:
            name: Name of the feature.
            rows: Rows of the file, sorted.
            location: What is read, for messages.
            groups: What of row groups is kept.

        Returns:
            The cells.

        Raises:
            DataError: If the file is damaged.
        """

        def read(group: int) -> pa.ChunkedArray:
            with read_errors_at(location):
                return self.parquet.read_row_group(group, columns=[name], use_threads=False)[name]

        parts = []
        for group, places in self._by_group(rows):
            place = (self._path, group, name)
            column = groups.get(place, lambda group=group: read(group))  # type: ignore[misc]
            parts += column.take(pa.array(places)).chunks
        return pa.chunked_array(parts)

    def _by_group(self, rows: Array) -> Iterator[tuple[int, Array]]:
        """Yield row groups, and the rows that are in each, counted from its start."""
        groups = np.searchsorted(self._edges, rows, side="right") - 1
        for group in np.unique(groups).tolist():
            yield group, rows[groups == group] - self._edges[group]


def _size_of(column: pa.ChunkedArray) -> int:
    return int(column.nbytes)


def _distances(blobs: Sequence[bytes]) -> Array:
    frames = []
    for blob in blobs:
        with Image.open(io.BytesIO(blob), formats=("PNG", "TIFF")) as image:
            frames.append(np.asarray(image))
        if frames[-1].ndim != 2 or frames[-1].shape != frames[0].shape:
            raise ValueError(f"a frame of {frames[-1].shape}, for [H, W]")
    return np.stack(frames)
