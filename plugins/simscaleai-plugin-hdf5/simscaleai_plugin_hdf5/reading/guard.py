"""Take one object out of a file, only if it lies in the file itself and is safe to read.

Files from elsewhere can point at other files, name code to load, or declare sizes that fill the
memory. Each step into a file goes through here, one path component at a time; what lies behind a
link is never opened.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import h5py
import numpy as np

from simscaleai_core.data.location import Location, quoted
from simscaleai_plugin_hdf5.checks import read_errors_at
from simscaleai_plugin_hdf5.reading.allowance import (
    NAME_BYTES,
    Allowance,
    check_declared,
    declared_bytes,
)
from simscaleai_plugin_hdf5.reading.timesteps import COMPRESSIONS, SHUFFLE, Stored

MAX_CHUNK_BYTES = 256 * 2**20

_LINK_NAMES = {h5py.h5l.TYPE_SOFT: "a soft link", h5py.h5l.TYPE_EXTERNAL: "an external link"}
_COPY = "Copy the data itself into the file"
_REPACK = "Repack the file, for example with h5repack -f GZIP=1"
# Built into HDF5, but what they decode to is nowhere checked: szip, nbit and scale-offset.
_UNSAFE_FILTERS = frozenset(
    {h5py.h5z.FILTER_SZIP, h5py.h5z.FILTER_NBIT, h5py.h5z.FILTER_SCALEOFFSET}
)


def names_in(parent: h5py.h5g.GroupID, location: Location, allowance: Allowance) -> list[str]:
    """List the members of a group.

    Args:
        parent: The group.
        location: Where it is, for messages.
        allowance: What may still be read.

    Returns:
        Their names; bytes that are no UTF-8 become surrogates, as Python does for file names.

    Raises:
        DataError: If one is a path, on whose way a link could lie.
    """
    with read_errors_at(location):
        allowance.take(len(parent) * NAME_BYTES)
        raw: list[bytes] = list(parent)
    names = [name.decode("utf-8", "surrogateescape") for name in raw]
    for name in names:
        _check_name(name, location)
    return names


def has_member(parent: h5py.h5g.GroupID, name: str, location: Location) -> bool:
    """Return whether a group has a member of a name, without following links.

    Args:
        parent: The group.
        name: The name.
        location: Where the group is, for messages.
    """
    with read_errors_at(location):
        found: bool = parent.links.exists(_raw(name))
        return found


def member_of(
    parent: h5py.h5g.GroupID, name: str, location: Location
) -> h5py.h5g.GroupID | h5py.h5d.DatasetID:
    """Open a member of a group by its name there.

    Args:
        parent: The group.
        name: The name, one component of a path.
        location: Where the member is, for messages.

    Returns:
        The group or dataset; a dataset is not checked yet, see `check_dataset`.

    Raises:
        DataError: If it is a link, or of another kind.
    """
    _check_name(name, location)
    raw = _raw(name)
    with read_errors_at(location):
        link = parent.links.get_info(raw)
        if link.type != h5py.h5l.TYPE_HARD:
            kind = _LINK_NAMES.get(link.type, "a user-defined link")
            raise location.error("data inside the file", kind, _COPY)
        return h5py.h5o.open(parent, raw)


def group_in(parent: h5py.h5g.GroupID, name: str, location: Location) -> h5py.h5g.GroupID:
    """Open a group, as `member_of` opens a member.

    Returns:
        The group.

    Raises:
        DataError: If it is a link or not a group.
    """
    found = member_of(parent, name, location)
    if not isinstance(found, h5py.h5g.GroupID):
        raise location.error("a group", kind_of_object(found), "Check the layout of the file")
    return found


def dataset_in(parent: h5py.h5g.GroupID, path: Sequence[str], location: Location) -> Stored:
    """Open a dataset inside a group, and check that it is safe to read.

    Args:
        parent: The group.
        path: Names that lead to the dataset.
        location: Where it is, for messages.

    Returns:
        The dataset.

    Raises:
        DataError: If it is a link, not a dataset, kept outside the file, or absurdly large.
    """
    for name in path[:-1]:
        parent = group_in(parent, name, location)
    found = member_of(parent, path[-1], location)
    if not isinstance(found, h5py.h5d.DatasetID):
        raise location.error("a dataset", kind_of_object(found), "Check the layout of the file")
    stored = stored_in(found, location)
    if not stored.is_array:
        raise location.error("an array [T, ...]", "a single or empty value", "Check the layout")
    return stored


def stored_in(
    dataset: h5py.h5d.DatasetID, location: Location, stored_bytes: int | None = None
) -> Stored:
    """Check that a dataset is safe to read.

    Args:
        dataset: The dataset.
        location: Where it is, for messages.
        stored_bytes: Size of its file, or of all files that are read [bytes]; asked for if None.

    Returns:
        The dataset.

    Raises:
        DataError: If it is kept outside the file, filtered by what is not known, or absurdly
            large.
    """
    with read_errors_at(location):
        chunk: tuple[int, ...] | None = None
        filters: tuple[int, ...] = ()
        if dataset.get_offset() is None:  # else it is one block in the file, without a filter
            properties = dataset.get_create_plist()
            _check_storage(properties, location)
            filters = _checked_filters(properties, location)
            if properties.get_layout() == h5py.h5d.CHUNKED:
                chunk = properties.get_chunk()
        space, kind = dataset.get_space(), dataset.get_type()
        is_array = space.get_simple_extent_type() == h5py.h5s.SIMPLE
        shape, item_bytes = space.get_simple_extent_dims() if is_array else (), kind.get_size()
        if chunk is not None:
            _check_chunk(math.prod(chunk) * item_bytes, location)
            dataset.get_storage_size()  # walks through the list of the chunks
        if stored_bytes is None:
            stored_bytes = h5py.h5i.get_file_id(dataset).get_filesize()
        size = declared_bytes(shape, item_bytes, chunk)
        check_declared(size, stored_bytes, location)
        return Stored(dataset, shape, is_array and bool(shape), chunk, filters, kind.encode(), size)


def kind_of_object(found: object) -> str:
    """Return what an object of a file is, in words."""
    if isinstance(found, h5py.h5g.GroupID):
        return "a group"
    return "a dataset" if isinstance(found, h5py.h5d.DatasetID) else "a named data type"


def type_name(dtype: np.dtype[np.generic]) -> str:
    """Return what a type that holds no real numbers is, in words."""
    if dtype.metadata and "vlen" in dtype.metadata:
        item = dtype.metadata["vlen"]
        return "text" if item in (str, bytes) else "rows of varying length"
    names = {"S": "text", "O": "references", "c": "complex numbers", "V": "compound or opaque"}
    return f"{names.get(dtype.kind, 'another type')} ({dtype})"


def _check_name(name: str, location: Location) -> None:
    if "/" in name:
        raise location.error("a name without '/'", quoted(name), "Rename it")


def _raw(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _check_storage(properties: h5py.h5p.PropDCID, location: Location) -> None:
    expected = "data inside the file"
    if properties.get_layout() == h5py.h5d.VIRTUAL:
        raise location.error(expected, "a virtual dataset", _COPY)
    if properties.get_external_count() > 0:
        raise location.error(expected, "external storage", _COPY)


def _checked_filters(properties: h5py.h5p.PropDCID, location: Location) -> tuple[int, ...]:
    codes: list[int] = []
    for position in range(properties.get_nfilters()):
        code, _, _, name = properties.get_filter(position)
        if code in _UNSAFE_FILTERS or not h5py.h5z.filter_avail(code):
            label = name.decode("utf-8", "replace") or "no name"
            expected = "one of the filters gzip, lzf, shuffle and fletcher32"
            raise location.error(expected, f"filter {code} ({label})", _REPACK)
        if code in {SHUFFLE, *COMPRESSIONS} and not COMPRESSIONS.isdisjoint(codes):
            raise location.error("one compression, after shuffling", "several filters", _REPACK)
        codes.append(code)
    return tuple(codes)


def _check_chunk(chunk_bytes: int, location: Location) -> None:
    if chunk_bytes > MAX_CHUNK_BYTES:
        found = f"chunks of {chunk_bytes / 2**20:.0f} MiB"
        raise location.error("chunks of at most 256 MiB", found, "Repack it with smaller chunks")
