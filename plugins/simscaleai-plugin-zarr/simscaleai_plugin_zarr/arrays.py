"""What an array says of itself, and whether all of it is stored.

What a store declares costs its writer nothing: a few bytes can stand for terabytes of chunks that
were never written, which Zarr would give as zeros. So an array is read only if every chunk is
there, and is as large as it may be.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from attrs import frozen

from simscaleai_core.data.location import Location, quoted
from simscaleai_plugin_zarr.files import Files, metadata_of

JPEG_XL = "imagecodecs_jpegxl"
"""Name of the codec of UMI's frames."""
CODECS = ("blosc", "gzip", JPEG_XL, "zlib", "zstd")
"""Compressions that are read: what they decode to is known before, or bounded."""

MAX_CHUNK_BYTES = 256 * 2**20
FREE_BYTES = 64 * 2**20
MAX_RATIO = 250
"""Numbers of robots shrink to a tenth."""
_SLACK_BYTES = 2**16
_MALFORMED = (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError)
_COMPLETE = "Write the store again, with all of its chunks (write_empty_chunks=True)"

Where = Callable[[int | None], Location]
"""Where a row of an array is, for messages; None for the whole array."""


@frozen(kw_only=True)
class StoredArray:
    """One array of a store, as its description says."""

    path: str
    """Where it is in the store, such as ``"data/img"``."""
    zarr_format: int
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    """Shape of every chunk, those at the edges too."""
    dtype: np.dtype[Any]
    """Number type; void if it holds no real numbers."""
    type_name: str
    """Its type as the description has it."""
    codecs: tuple[str, ...]
    """What happened to a chunk's bytes, in the order of writing."""
    key_start: str
    separator: str

    @property
    def chunk_bytes(self) -> int:
        """Return the size of a decoded chunk [bytes]."""
        return math.prod(self.chunks) * self.dtype.itemsize

    @property
    def row_bytes(self) -> int:
        """Return the size of one row [bytes]."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def chunk_names(self) -> Iterator[tuple[int, str]]:
        """Return the first row and the name of every chunk, in order."""
        counts = [-(-size // step) for size, step in zip(self.shape, self.chunks, strict=True)]
        for place in _grid(counts):
            name = self.separator.join(map(str, place))
            yield place[0] * self.chunks[0], f"{self.path}/{self.key_start}{name}"


def read_description(files: Files, name: str, location: Location) -> StoredArray:
    """Read what an array says of itself.

    Args:
        files: The files of the store.
        name: The file that describes it.
        location: Where it is, for messages.

    Returns:
        The description.

    Raises:
        DataError: If it is damaged, or what it says makes no sense.
    """
    try:
        fields = json.loads(metadata_of(files, name))
        path = name.rpartition("/")[0]
        array = _version_2(path, fields) if name.endswith(".zarray") else _version_3(path, fields)
    except _MALFORMED as error:
        found = f"{type(error).__name__} ({error})"
        raise location.error("the description of an array", found, "Copy it again") from error
    if len(array.shape) != len(array.chunks) or not all(array.chunks):
        found = f"{list(array.shape)} in chunks {list(array.chunks)}"
        raise location.error("a shape in chunks of a shape", found, "Write it again")
    if array.separator not in {".", "/"}:  # another one could lead out of the store
        found = quoted(str(array.separator))
        raise location.error("'.' or '/' in the names of chunks", found, "Write it again")
    return array


def check_readable(files: Files, array: StoredArray, where: Where) -> int:
    """Check that an array can be decoded, and that every chunk of it is stored.

    Args:
        files: The files of the store.
        array: The array.
        where: Where its rows are, for messages.

    Returns:
        The size of its chunks as they are stored [bytes].

    Raises:
        DataError: If not.
    """
    expected = ("bytes", *CODECS) if array.zarr_format == 3 else CODECS
    strange = [codec for codec in array.codecs if codec not in expected]
    if strange or len([codec for codec in array.codecs if codec in CODECS]) > 1:
        raise where(None).error(
            f"at most one of the codecs {', '.join(CODECS)}",
            " and ".join(map(quoted, array.codecs)),
            "Write it again with one of them",
        )
    decoded = max(array.chunk_bytes, array.chunks[0] * array.row_bytes)
    if decoded > MAX_CHUNK_BYTES:
        found, remedy = f"{decoded / 2**20:.0f} MiB", "Write it again in smaller chunks"
        raise where(None).error("chunks of at most 256 MiB for one row", found, remedy)
    stored = 0
    for row, name in array.chunk_names():
        size = files.size(name)
        if size is None:
            raise where(row).error("every chunk stored", f"no chunk {quoted(name)}", _COMPLETE)
        if size > array.chunk_bytes + array.chunk_bytes // 8 + _SLACK_BYTES:
            found = f"{size} bytes in {quoted(name)}"
            raise where(row).error(f"chunks of {array.chunk_bytes} bytes", found, "Copy it again")
        stored += size
    return stored


def check_held(arrays: Mapping[str, int], stored: int, location: Location) -> None:
    """Check that what will be held in memory is in proportion to what is stored.

    Args:
        arrays: Sizes in memory of the arrays that are held, by name [bytes].
        stored: Size of their chunks [bytes].
        location: The store, for messages.

    Raises:
        DataError: If it is not.
    """
    total = sum(arrays.values())
    if total > FREE_BYTES + MAX_RATIO * stored:
        raise location.error(
            f"numbers of at most 64 MiB and {MAX_RATIO} times the {stored} bytes that are stored",
            f"{total} bytes, most of them in {quoted(max(arrays, key=lambda n: arrays[n]))}",
            "Check where the data comes from, or store it with less compression",
        )


def _version_2(path: str, fields: Mapping[str, Any]) -> StoredArray:
    compressor, filters = fields["compressor"], fields["filters"] or []
    return StoredArray(
        path=path,
        zarr_format=2,
        shape=_sizes(fields["shape"]),
        chunks=_sizes(fields["chunks"]),
        dtype=_real(fields["dtype"]),
        type_name=str(fields["dtype"]),
        codecs=tuple(str(c["id"]) for c in [*filters, *([compressor] if compressor else [])]),
        key_start="",
        separator=fields.get("dimension_separator", "."),
    )


def _version_3(path: str, fields: Mapping[str, Any]) -> StoredArray:
    keys = fields["chunk_key_encoding"]
    by_default = keys["name"] == "default"
    separator = keys.get("configuration", {}).get("separator", "/" if by_default else ".")
    grid, kind = fields["chunk_grid"]["configuration"], fields["data_type"]
    return StoredArray(
        path=path,
        zarr_format=3,
        shape=_sizes(fields["shape"]),
        chunks=_sizes(grid["chunk_shape"]),
        dtype=_real(kind),
        type_name=str(kind),
        codecs=tuple(str(codec["name"]) for codec in fields["codecs"]),
        key_start=f"c{separator}" if by_default else "",
        separator=separator,
    )


def _sizes(value: Any) -> tuple[int, ...]:
    if not (isinstance(value, Sequence) and all(type(n) is int and n >= 0 for n in value)):
        raise ValueError(f"sizes {value}")
    return tuple(value)


def _real(name: Any) -> np.dtype[Any]:
    """Return the type of real numbers that a description names, or void."""
    try:
        dtype = np.dtype(name if isinstance(name, str) else "V1")
    except TypeError:
        return np.dtype("V1")
    return dtype if dtype.kind in "biuf" else np.dtype("V1")


def _grid(counts: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Return the places of a grid one by one, however many it declares."""
    if not counts:
        yield ()
        return
    for first in range(counts[0]):
        for rest in _grid(counts[1:]):
            yield (first, *rest)
