"""Chunks on their way from the store to Zarr: each is there, and decodes to no more than it may.

What a compressed chunk says of its size is believed by the decoders, and c-blosc reads as many
bytes as its header says, whether or not they are there.
"""

from __future__ import annotations

import zlib
from typing import Self

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import WrapperStore

from simscaleai_plugin_zarr.arrays import StoredArray

_DESCRIPTIONS = frozenset({".zarray", ".zattrs", ".zgroup", ".zmetadata", "zarr.json"})
_ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS


class DamagedChunkError(ValueError):
    """A chunk is not there, or is not what its array says."""


class CheckedStore(WrapperStore[Store]):
    """The store of one array, which gives no chunk that it has not looked at.

    Args:
        store: The store.
        array: The array.
    """

    def __init__(self, store: Store, array: StoredArray) -> None:
        super().__init__(store)
        self._array = array

    def _with_store(self, store: Store) -> Self:
        return type(self)(store, self._array)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return what is stored under a key.

        Raises:
            DamagedChunkError: If it is a chunk that should not be decoded.
        """
        found = await super().get(key, prototype, byte_range)
        if key.rpartition("/")[2] in _DESCRIPTIONS:
            return found
        fault = "nothing" if found is None else _fault_of(found.to_bytes(), self._array)
        if fault:
            raise DamagedChunkError(f"{fault} in the chunk {key!r}")
        return found


def _fault_of(raw: bytes, array: StoredArray) -> str:
    """Return what is wrong with a chunk as it is stored, or nothing."""
    codec = next((name for name in array.codecs if name != "bytes"), "")
    wanted, found = array.chunk_bytes, array.chunk_bytes
    if not codec:
        found = len(raw)
    elif codec == "blosc":
        stored = int.from_bytes(raw[12:16], "little")
        if len(raw) < 16 or stored != len(raw):
            return f"{len(raw)} of {stored} bytes"
        found = int.from_bytes(raw[4:8], "little")
    elif codec == "zstd":
        found = _zstd_size(raw)
    elif codec in {"gzip", "zlib"}:
        try:
            found = len(zlib.decompressobj(_ZLIB_OR_GZIP).decompress(raw, wanted + 1))
        except zlib.error as error:
            return str(error)
    return "" if found == wanted else f"{found} bytes instead of {wanted}"


def _zstd_size(raw: bytes) -> int:
    """Return the size that the first frame of Zstandard data says.

    Source:
        RFC 8878, section 3.1.1.1.
    """
    if len(raw) < 6 or raw[:4] != b"\x28\xb5\x2f\xfd":
        return 0
    descriptor = raw[4]
    size_bytes = (1 if descriptor & 0x20 else 0, 2, 4, 8)[descriptor >> 6]
    start = 5 + (0 if descriptor & 0x20 else 1) + (0, 1, 2, 4)[descriptor & 3]
    size = int.from_bytes(raw[start : start + size_bytes], "little")
    return size + 256 if size_bytes == 2 else size
