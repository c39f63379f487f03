"""Rows of the arrays of a store, read where they lie, in each process anew.

Neighbouring reads of low-dimensional numbers and of frames of which many share a chunk come from
one decoding: the last few blocks are kept.
"""

from __future__ import annotations

import importlib
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from attrs import define, field
from zarr.abc.store import Store
from zarr.registry import get_numcodec
from zarr.storage import LocalStore, ZipStore

from simscaleai_plugin_zarr.arrays import JPEG_XL, StoredArray, Where
from simscaleai_plugin_zarr.chunks import CheckedStore, DamagedChunkError

Rows = npt.NDArray[Any]

_BLOCK_BYTES = 64 * 2**10
_KEPT_BYTES = 128 * 2**20
_UNREADABLE = (
    ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError, EOFError, OSError,
    NotImplementedError, zlib.error, zipfile.BadZipFile,
)  # fmt: skip
"""What Zarr and the decoders raise for damaged data."""


@define(eq=False)
class Reader:
    """Reads rows of arrays.

    Args:
        path: The folder or archive.
        root: The name in the archive below which the store lies.
    """

    path: Path
    root: str
    _pid: int = field(factory=os.getpid, init=False)
    _store: Store | None = field(default=None, init=False)
    _arrays: dict[str, zarr.Array[Any]] = field(factory=dict, init=False)
    _blocks: dict[tuple[str, int], Rows] = field(factory=dict, init=False)

    def rows(self, array: StoredArray, start: int, stop: int, where: Where) -> Rows:
        """Return the rows from `start` to before `stop` of an array, as a copy.

        Args:
            array: The array.
            start: First row.
            stop: The row after the last.
            where: Where its rows are, for messages.

        Returns:
            The rows `[stop - start, ...]`, in the type that they are stored in.

        Raises:
            DataError: If they cannot be read.
        """
        if self._pid != os.getpid():  # file positions are shared with the process that forked
            self._forget()
        if start >= stop:
            return np.empty((0, *array.shape[1:]), dtype=array.dtype)
        steps = max(_BLOCK_BYTES // max(array.row_bytes * array.chunks[0], 1), 1) * array.chunks[0]
        if steps == 1:  # frames that are chunks of their own
            return self._read(array, start, stop, where)
        first = start - start % steps
        try:
            blocks = [self._block(array, row, steps, where) for row in range(first, stop, steps)]
        except _UNREADABLE:  # which need not be in the rows that are asked for
            return self._read(array, start, stop, where)
        joined = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
        return joined[start - first : stop - first].copy()

    def close(self) -> None:
        """Close the files; they are opened again when they are needed."""
        if self._store is not None and self._pid == os.getpid():
            self._store.close()
        self._forget()

    def _block(self, array: StoredArray, row: int, steps: int, where: Where) -> Rows:
        found = self._blocks.pop((array.path, row), None)
        if found is None:
            found = np.asarray(self._open(array, where)[row : row + steps])
        self._blocks[array.path, row] = found  # the newest is the last
        while len(self._blocks) > 1 and sum(b.nbytes for b in self._blocks.values()) > _KEPT_BYTES:
            del self._blocks[next(iter(self._blocks))]
        return found

    def _read(self, array: StoredArray, start: int, stop: int, where: Where) -> Rows:
        try:
            return np.asarray(self._open(array, where)[start:stop])
        except _UNREADABLE as error:
            steps = array.chunks[0]
            if stop - start > steps:  # which chunk is it?
                for row in range(start - start % steps, stop, steps):
                    self._read(array, max(row, start), min(row + steps, stop), where)
            is_ours = isinstance(error, DamagedChunkError)
            reason = str(error) if is_ours else f"{type(error).__name__} ({error})"
            remedy = "Copy the data again, or write it again"
            raise where(start).error("readable chunks", reason, remedy) from error

    def _open(self, array: StoredArray, where: Where) -> zarr.Array[Any]:
        found = self._arrays.get(array.path)
        if found is None:
            if JPEG_XL in array.codecs:
                _register_jpeg_xl(where)
            if self._store is None:
                is_folder = self.path.is_dir()
                self._store = (
                    LocalStore(self.path, read_only=True) if is_folder else ZipStore(self.path)
                )
            found = self._arrays[array.path] = zarr.open_array(
                CheckedStore(self._store, array),
                path=self.root + array.path,
                mode="r",
                zarr_format=3 if array.zarr_format == 3 else 2,
            )
        return found

    def _forget(self) -> None:
        self._pid, self._store, self._arrays, self._blocks = os.getpid(), None, {}, {}

    def __getstate__(self) -> tuple[Path, str]:
        return self.path, self.root

    def __setstate__(self, state: tuple[Path, str]) -> None:
        self.__init__(*state)  # type: ignore[misc]


def _register_jpeg_xl(where: Where) -> None:
    """Let numcodecs decode JPEG XL, if it does not know how yet.

    Raises:
        DataError: If the package for it is not installed.
    """
    try:
        get_numcodec({"id": JPEG_XL})
    except ValueError:
        try:
            codecs = importlib.import_module("imagecodecs.numcodecs")
        except ImportError as error:
            raise where(None).error(
                "the package imagecodecs, which decodes frames in JPEG XL",
                f"{error}",
                "Install it: pip install 'simscaleai-plugin-zarr[umi]'",
            ) from error
        codecs.register_codecs((JPEG_XL,), verbose=False)
