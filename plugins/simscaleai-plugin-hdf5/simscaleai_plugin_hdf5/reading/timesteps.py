"""Read timesteps of a dataset, chunk by chunk and only after a look at what the chunks hold.

HDF5 believes what a compressed chunk says: it inflates all that comes out, whatever the size of
the chunk, and copies a whole chunk even if less came out, with whatever lies behind it in memory
(measured with HDF5 2.0: a file of 400 KB took 400 MB; a short chunk read other memory or crashed).
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from attrs import define

from simscaleai_core.data.location import Location
from simscaleai_plugin_hdf5.checks import read_errors_at

SHUFFLE = h5py.h5z.FILTER_SHUFFLE
FLETCHER32 = h5py.h5z.FILTER_FLETCHER32
DEFLATE = h5py.h5z.FILTER_DEFLATE
LZF = h5py.h5z.FILTER_LZF
COMPRESSIONS = frozenset({DEFLATE, LZF})
KNOWN_FILTERS = frozenset({SHUFFLE, FLETCHER32, *COMPRESSIONS})

_BLOCK_BYTES = 32 * 2**20
_CHECKSUM_BYTES = 4


@define(eq=False)
class Stored:
    """A dataset that is safe to read, and what HDF5 says of it; `guard` makes it."""

    id: h5py.h5d.DatasetID
    """The open dataset."""
    shape: tuple[int, ...]
    """Its shape; empty for a single or empty value."""
    is_array: bool
    """Whether it has a dimension."""
    chunk: tuple[int, ...] | None
    """Shape of its chunks, if it has any."""
    filters: tuple[int, ...]
    """Codes of what a chunk went through, in the order of writing."""
    encoded_type: bytes
    """Type of its values, as HDF5 encodes it."""
    num_bytes: int
    """What reading all of it takes [bytes]."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of its values.

        Raises:
            TypeError: If NumPy has no such type.
        """
        return _types(self.encoded_type)[0]


@lru_cache(maxsize=256)
def _types(encoded: bytes) -> tuple[np.dtype[Any], h5py.h5t.TypeID]:
    """Return the type of values in memory, for NumPy and for HDF5."""
    dtype = h5py.h5t.decode(encoded).dtype
    return dtype, h5py.h5t.py_create(dtype)


def is_number(stored: Stored, location: Location) -> bool:
    """Return whether the values of a dataset are real numbers.

    Args:
        stored: The dataset.
        location: Where it is, for messages.
    """
    with read_errors_at(location):
        return stored.dtype.kind in "biuf"


class Chunks:
    """Checks that the chunks of a dataset decode to their size, each once.

    Args:
        stored: The dataset.
        location: Where it is, for messages.
        item_bytes: Size of one of its values in the file [bytes].
    """

    def __init__(self, stored: Stored, location: Location, item_bytes: int) -> None:
        is_known = KNOWN_FILTERS.issuperset(stored.filters)
        self._stored = stored
        self._location = location
        self._chunk = stored.chunk if is_known and stored.filters else None
        self._chunk_bytes = math.prod(stored.chunk or ()) * item_bytes
        self._checked: set[int] = set()

    def check(self, start: int, stop: int) -> None:
        """Check the chunks of timesteps.

        Args:
            start: The first.
            stop: The one after the last.
        """
        chunk, shape = self._chunk, self._stored.shape
        if chunk is None:
            return
        inner = [range(0, size, step) for size, step in zip(shape[1:], chunk[1:], strict=True)]
        for number in range(start // chunk[0], -(-stop // chunk[0])):
            if number not in self._checked:
                for offset in itertools.product((number * chunk[0],), *inner):
                    self._check_chunk(offset)
                self._checked.add(number)

    def _check_chunk(self, offset: tuple[int, ...]) -> None:
        info = self._stored.id.get_chunk_info_by_coord(offset)
        if info.byte_offset is None:  # never written: all of it is the fill value
            return
        size: int | None = None
        if info.size <= 2 * self._chunk_bytes + 1024:  # no compression makes much more of it
            size = self._decoded_size(offset, info, self._chunk_bytes + 1024)
        if size != self._chunk_bytes:
            raise self._location.error(
                f"{self._chunk_bytes} bytes in every chunk",
                f"a damaged one at {list(offset)}",
                "Copy the file again from its source, or record it anew",
            )

    def _decoded_size(self, offset: tuple[int, ...], info: Any, limit: int) -> int | None:
        filters = self._stored.filters
        applied = [code for n, code in enumerate(filters) if not info.filter_mask >> n & 1]
        if COMPRESSIONS.isdisjoint(applied):  # the size says it all
            return int(info.size) - _CHECKSUM_BYTES * applied.count(FLETCHER32)
        mask, raw = self._stored.id.read_direct_chunk(offset)
        return _decoded_size(raw, filters, mask, limit)


class Timesteps:
    """The timesteps of one dataset.

    Args:
        stored: The dataset; its values are numbers, or bytes of one size.
        location: Where it is, for messages.
    """

    def __init__(self, stored: Stored, location: Location) -> None:
        self._dataset = stored.id
        self._location = location
        with read_errors_at(location):
            self.dtype, self._type = _types(stored.encoded_type)
        self._chunks = Chunks(stored, location, self.dtype.itemsize)
        self.shape = stored.shape
        self.chunk_steps: int = stored.chunk[0] if stored.chunk else 1
        """Timesteps that lie in one chunk and are decoded together."""

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Return timesteps `[stop - start, ...]`.

        Args:
            start: The first.
            stop: The one after the last.
        """
        with read_errors_at(self._location):
            self._chunks.check(start, stop)
            values = np.empty((stop - start, *self.shape[1:]), self.dtype)
            if not values.size:
                return values
            if values.shape == self.shape:
                self._dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, values, self._type)
            else:
                space = self._dataset.get_space()
                space.select_hyperslab((start, *[0] * (values.ndim - 1)), values.shape)
                memory = h5py.h5s.create_simple(values.shape)
                self._dataset.read(memory, space, values, self._type)
            return values

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, int]]:
        """Yield first timestep and end of blocks of some 32 MiB that take every chunk once.

        Args:
            start: The first timestep.
            stop: The one after the last; all of them if not given.
        """
        end = self.shape[0] if stop is None else stop
        row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        steps = max(1, _BLOCK_BYTES // max(1, row_bytes) // self.chunk_steps) * self.chunk_steps
        for begin in range(start, end, steps):
            yield begin, min(begin + steps, end)


def _decoded_size(raw: bytes, filters: Sequence[int], mask: int, limit: int) -> int | None:
    """Return what a stored chunk decodes to [bytes], or None if it does not decode.

    Args:
        raw: The chunk as it is stored.
        filters: Codes of what it went through, in the order of writing.
        mask: Bits of the filters that were left out.
        limit: The size at which to give up [bytes].
    """
    size = len(raw)
    applied = [code for n, code in enumerate(filters) if not mask >> n & 1]
    for code in reversed(applied):
        if code == FLETCHER32:
            size -= _CHECKSUM_BYTES
        if size < 0:
            return None
        if code in COMPRESSIONS:
            found = (_inflated_size if code == DEFLATE else _lzf_size)(raw[:size], limit)
            if found is None:
                return None
            size = found
    return size


def _inflated_size(raw: bytes, limit: int) -> int | None:
    stream = zlib.decompressobj()
    try:
        size = len(stream.decompress(raw, limit + 1))
    except zlib.error:
        return None
    return size if stream.eof else None


def _lzf_size(raw: bytes, limit: int) -> int | None:
    # A byte below 32 starts so many literal bytes and one more; any other refers to earlier ones.
    position = size = 0
    while position < len(raw) and size <= limit:
        control = raw[position]
        if control < 32:
            run = control + 1
            position += run + 1
        else:
            run = (control >> 5) + 2
            if run == 9 and position + 1 < len(raw):
                run += raw[position + 1]
                position += 1
            position += 2
        size += run
    return size if position == len(raw) else None
