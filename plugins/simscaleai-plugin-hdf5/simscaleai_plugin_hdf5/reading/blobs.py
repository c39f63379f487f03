"""Read timesteps that are bytes: compressed frames and texts.

What varies in size lies in a heap of the file, and HDF5 follows what the heap says: a damaged one
makes it loop for ever. So such a dataset is read once in a process apart before it is read here.

T: timesteps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import h5py

from simscaleai_core.data.location import Location
from simscaleai_plugin_hdf5.checks import read_errors_at
from simscaleai_plugin_hdf5.reading.allowance import check_declared
from simscaleai_plugin_hdf5.reading.apart import apart, still_alive
from simscaleai_plugin_hdf5.reading.timesteps import Chunks, Stored, Timesteps

_REFERENCE_BYTES = 16  # a length, an address and a number
_BLOCK_STEPS = 128
"""Bytes of one heap object may stand in so many timesteps: fewer than a file may ask for."""


class Blobs:
    """The timesteps of a dataset whose values vary in size.

    Args:
        stored: The dataset.
        location: Where it is, for messages.
    """

    def __init__(self, stored: Stored, location: Location) -> None:
        with read_errors_at(location):
            self._dataset = h5py.Dataset(stored.id)
        self._location = location
        self._length = stored.shape[0]
        self._chunks = Chunks(stored, location, _REFERENCE_BYTES)
        self._is_safe = False
        self.chunk_steps = 1
        """Timesteps that are decoded together."""

    def read(self, start: int, stop: int) -> list[bytes]:
        """Return the bytes of timesteps.

        Args:
            start: The first.
            stop: The one after the last.
        """
        if not self._is_safe:
            apart(self._try_all, self._location)
            self._is_safe = True
        return [blob for block in self._blocks(start, stop) for blob in block]

    def read_apart(self, start: int, stop: int) -> Iterator[list[bytes]]:
        """Yield blocks of timesteps; only in a process apart, or after `read`.

        Args:
            start: The first.
            stop: The one after the last.
        """
        for block in self._blocks(start, stop):
            still_alive()
            yield block

    def _try_all(self) -> None:
        with read_errors_at(self._location):
            stored = h5py.h5i.get_file_id(self._dataset.id).get_filesize()
        total = 0
        for block in self.read_apart(0, self._length):
            total += sum(map(len, block))
            check_declared(total, stored, self._location)

    def _blocks(self, start: int, stop: int) -> Iterator[list[bytes]]:
        for begin in range(start, stop, _BLOCK_STEPS):
            with read_errors_at(self._location):
                self._chunks.check(begin, min(begin + _BLOCK_STEPS, stop))
                values = self._dataset[begin : min(begin + _BLOCK_STEPS, stop)]
                block = [_bytes(value) for value in values.reshape(-1)]
            yield block


def reader_of(stored: Stored, location: Location) -> Timesteps | Blobs:
    """Return what reads a dataset.

    Args:
        stored: The dataset.
        location: Where it is, for messages.

    Returns:
        `Blobs` if its values vary in size.
    """
    with read_errors_at(location):
        varies = stored.dtype.kind == "O"
    return (Blobs if varies else Timesteps)(stored, location)


def blobs_of(values: Any) -> Sequence[bytes]:
    """Return each timestep of what was read as bytes.

    Args:
        values: Bytes; or an array `[T]` of bytes of one size, or `[T, N]` uint8.
    """
    if isinstance(values, list):
        return values
    return [_bytes(value) for value in values]


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    return value if isinstance(value, bytes) else value.tobytes()
