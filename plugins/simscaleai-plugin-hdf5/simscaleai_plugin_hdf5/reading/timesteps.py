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
from typing import Any

import h5py
import numpy.typing as npt

from simscaleai_plugin_hdf5.checks import Location, read_errors_at

SHUFFLE = h5py.h5z.FILTER_SHUFFLE
FLETCHER32 = h5py.h5z.FILTER_FLETCHER32
DEFLATE = h5py.h5z.FILTER_DEFLATE
LZF = h5py.h5z.FILTER_LZF
COMPRESSIONS = frozenset({DEFLATE, LZF})
KNOWN_FILTERS = frozenset({SHUFFLE, FLETCHER32, *COMPRESSIONS})

_BLOCK_BYTES = 32 * 2**20
_CHECKSUM_BYTES = 4


class Timesteps:
    """The timesteps of one dataset.

    Args:
        dataset: The dataset, as `guard.dataset_in` gave it.
        location: Where it is, for messages.
    """

    def __init__(self, dataset: h5py.Dataset, location: Location) -> None:
        properties = dataset.id.get_create_plist()
        filters = [properties.get_filter(n)[0] for n in range(properties.get_nfilters())]
        self._dataset = dataset
        self._location = location
        self._filters = filters if KNOWN_FILTERS.issuperset(filters) else []
        self._checked: set[int] = set()
        self.chunk_steps: int = dataset.chunks[0] if dataset.chunks else 1
        """Timesteps that lie in one chunk and are decoded together."""

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Return timesteps `[stop - start, ...]`.

        Args:
            start: The first.
            stop: The one after the last.
        """
        with read_errors_at(self._location):
            if self._filters:
                self._check_chunks(start, stop)
            values: npt.NDArray[Any] = self._dataset[start:stop]
            return values

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Yield first timestep and end of blocks of some 32 MiB that take every chunk once."""
        length = len(self._dataset)
        row_bytes = math.prod(self._dataset.shape[1:]) * self._dataset.dtype.itemsize
        steps = max(1, _BLOCK_BYTES // max(1, row_bytes) // self.chunk_steps) * self.chunk_steps
        for start in range(0, length, steps):
            yield start, min(start + steps, length)

    def _check_chunks(self, start: int, stop: int) -> None:
        shape, chunk = self._dataset.shape, self._dataset.chunks
        inner = [range(0, size, step) for size, step in zip(shape[1:], chunk[1:], strict=True)]
        for number in range(start // chunk[0], -(-stop // chunk[0])):
            if number not in self._checked:
                for offset in itertools.product((number * chunk[0],), *inner):
                    self._check_chunk(offset, math.prod(chunk) * self._dataset.dtype.itemsize)
                self._checked.add(number)

    def _check_chunk(self, offset: tuple[int, ...], chunk_bytes: int) -> None:
        info = self._dataset.id.get_chunk_info_by_coord(offset)
        if info.byte_offset is None:  # never written: all of it is the fill value
            return
        size: int | None = None
        if info.size <= 2 * chunk_bytes + 1024:  # no compression makes much more of it
            mask, raw = self._dataset.id.read_direct_chunk(offset)
            size = _decoded_size(raw, self._filters, mask, chunk_bytes + 1024)
        if size != chunk_bytes:
            raise self._location.error(
                f"{chunk_bytes} bytes in every chunk",
                f"a damaged one at {list(offset)}",
                "Copy the file again from its source, or record it anew",
            )


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
