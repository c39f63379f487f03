"""Single images of a parquet file, without the rest of their row group.

pyarrow reads no less than a row group, which is a whole episode, or the file: 10 to 100 MB of
images for one frame. Where a column's values lie in small pages, as our writer leaves them, it is
enough to read the headers of the pages, once, and then the pages of the values that are wanted.

What is read: pages of version 1 of an optional column that has no missing value and no dictionary.
Of anything else, and of large pages, `PagedColumn` raises `Unreadable`, and pyarrow reads it.

Source: the Parquet format, apache/parquet-format: README.md, Encodings.md and parquet.thrift.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from attrs import frozen

_CODECS = {"UNCOMPRESSED": None, "SNAPPY": "snappy", "ZSTD": "zstd", "GZIP": "gzip"}
_DATA_PAGE, _PLAIN = 0, 0
_FEW_VALUES = 4
_SMALL_PAGE_BYTES = 2**20
_HEADER_BYTES = 512
_LARGEST_HEADER_BYTES = 2**20
_DEEPEST = 4
_LENGTH = struct.Struct("<I")


class Unreadable(Exception):  # noqa: N818 - no fault: it is read another way
    """A column chunk of a kind that is not read here."""


@frozen(kw_only=True)
class _Page:
    """One page of a column chunk."""

    first: int
    """First value in it, counted from the start of the chunk."""
    offset: int
    """First byte after the header, in the file."""
    stored: int
    """Its size in the file [bytes]."""
    size: int
    """Its size when it is decompressed [bytes]."""


class PagedColumn:
    """The values of one column in one row group.

    Args:
        file: The open file.
        metadata: Its metadata.
        group: The row group.
        column: Path of the column, such as ``"observation.images.top.bytes"``.

    Raises:
        Unreadable: If it is of a kind that is not read here.
    """

    def __init__(
        self, file: pa.NativeFile, metadata: pq.FileMetaData, group: int, column: str
    ) -> None:
        self._file = file
        chunk, levels = _chunk_of(metadata, group, column)
        self._codec = _CODECS[chunk.compression]
        self._has_levels = levels > 0
        self._pages = _pages_of(file, chunk)
        self._firsts = np.array([page.first for page in self._pages])

    def values(self, places: npt.NDArray[np.int64]) -> list[bytes]:
        """Return some values.

        Args:
            places: Which, sorted, counted from the start of the row group.

        Returns:
            The values.

        Raises:
            Unreadable: If a page is not as its header says.
        """
        pages = np.searchsorted(self._firsts, places, side="right") - 1
        found: list[bytes] = []
        try:
            for number in np.unique(pages).tolist():
                inside = places[pages == number] - self._pages[number].first
                found += self._values_in(self._pages[number], inside.tolist())
        except (ValueError, struct.error, OSError, pa.ArrowException) as error:
            raise Unreadable(str(error)) from error
        return found

    def _values_in(self, page: _Page, wanted: Sequence[int]) -> list[bytes]:
        """Return values of a page, which holds lengths and bytes in turn; `wanted` is sorted."""
        content = self._content(page)
        place = _LENGTH.size + _LENGTH.unpack_from(content)[0] if self._has_levels else 0
        found, number = [], 0
        for value in wanted:
            while number <= value:
                begin = place + _LENGTH.size
                place = begin + _LENGTH.unpack_from(content, place)[0]
                number += 1
            if place > len(content):
                raise ValueError("a value that is longer than its page")
            found.append(content[begin:place])
        return found

    def _content(self, page: _Page) -> bytes:
        """Return the decompressed bytes of a page."""
        stored: bytes = self._file.read_at(page.stored, page.offset)
        if self._codec is None or len(stored) != page.stored:
            return stored
        content: bytes = pa.decompress(stored, page.size, codec=self._codec, asbytes=True)
        return content


def _chunk_of(metadata: pq.FileMetaData, group: int, column: str) -> tuple[Any, int]:
    """Return the metadata of a column chunk, and how many levels of it are optional."""
    paths = [metadata.schema.column(place).path for place in range(metadata.num_columns)]
    if column not in paths:
        raise Unreadable(column)
    place = paths.index(column)
    about, chunk = metadata.schema.column(place), metadata.row_group(group).column(place)
    counts = chunk.statistics
    is_complete = counts is not None and counts.null_count == 0
    is_plain = not (chunk.has_dictionary_page or about.max_repetition_level)
    if not (is_complete and is_plain and chunk.compression in _CODECS):
        raise Unreadable(column)
    return chunk, about.max_definition_level


def _pages_of(file: pa.NativeFile, chunk: Any) -> list[_Page]:
    """Read the headers of all pages of a column chunk."""
    offset, first, pages = chunk.data_page_offset, 0, list[_Page]()
    end = offset + chunk.total_compressed_size
    while offset < end:
        header, length = _header_at(file, offset)
        about = header.get(5) if header.get(1) == _DATA_PAGE else None
        if not isinstance(about, dict) or about.get(2) != _PLAIN:
            raise Unreadable("a page of another type")
        count, size, stored = _size(about, 1), _size(header, 2), _size(header, 3)
        if count > _FEW_VALUES and size > _SMALL_PAGE_BYTES:
            raise Unreadable(f"a page of {size} bytes")
        page = _Page(first=first, offset=offset + length, stored=stored, size=size)
        pages.append(page)
        first += count
        offset = page.offset + stored
    if first != chunk.num_values:
        raise Unreadable(f"{first} values for {chunk.num_values}")
    return pages


def _size(fields: dict[int, Any], number: int) -> int:
    size = fields.get(number)
    if not isinstance(size, int) or size < 0:
        raise Unreadable("a page without a size")
    return size


def _header_at(file: pa.NativeFile, offset: int) -> tuple[dict[int, Any], int]:
    """Return a header, and its length [bytes]."""
    size = _HEADER_BYTES
    while size <= _LARGEST_HEADER_BYTES:
        reader = _Compact(file.read_at(size, offset))
        try:
            return reader.struct(), reader.place
        except IndexError:  # statistics in it make it long
            size *= 8
    raise Unreadable("a header without an end")


class _Compact:
    """Reads a structure in Thrift's compact protocol, as numbers and structures by field."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.place = 0
        """The next byte."""

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Read a structure, which lies in `depth` others."""
        if depth > _DEEPEST:
            raise Unreadable("a header that is nested deeper than any")
        fields: dict[int, Any] = {}
        number = 0
        while (byte := self._byte()) != 0:
            number = number + (byte >> 4) if byte >> 4 else self._integer()
            fields[number] = self._value(byte & 15, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in {1, 2}:  # true and false
            return kind == 1
        if kind in {4, 5, 6}:  # whole numbers
            return self._integer()
        if kind == 12:
            return self.struct(depth + 1)
        if kind != 8:
            raise Unreadable(f"a field of type {kind}")
        length = self._varint()
        self.place += length  # bytes, which nobody needs
        return None

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    def _byte(self) -> int:
        byte = self._content[self.place]
        self.place += 1
        return byte
