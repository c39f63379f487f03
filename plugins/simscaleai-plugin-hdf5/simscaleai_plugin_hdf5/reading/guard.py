"""Take one object out of a file, only if it lies in the file itself and is safe to read.

Files from elsewhere can point at other files, name code to load, or declare sizes that fill the
memory. Each step into a file goes through here, one path component at a time; what lies behind a
link is never opened.
"""

from __future__ import annotations

import math

import h5py
import numpy as np

from simscaleai_plugin_hdf5.checks import Location, quoted, read_errors_at
from simscaleai_plugin_hdf5.reading.allowance import check_declared, declared_bytes
from simscaleai_plugin_hdf5.reading.timesteps import COMPRESSIONS, SHUFFLE

MAX_CHUNK_BYTES = 256 * 2**20

_LINK_NAMES = {h5py.h5l.TYPE_SOFT: "a soft link", h5py.h5l.TYPE_EXTERNAL: "an external link"}
_COPY = "Copy the data itself into the file"
_REPACK = "Repack the file, for example with h5repack -f GZIP=1"
# Built into HDF5, but what they decode to is nowhere checked: szip, nbit and scale-offset.
_UNSAFE_FILTERS = frozenset(
    {h5py.h5z.FILTER_SZIP, h5py.h5z.FILTER_NBIT, h5py.h5z.FILTER_SCALEOFFSET}
)


def names_in(parent: h5py.Group, location: Location) -> list[str]:
    """List the members of a group.

    Args:
        parent: The group.
        location: Where it is, for messages.

    Returns:
        Their names; bytes that are no UTF-8 become surrogates, as Python does for file names.
    """
    with read_errors_at(location):
        names: list[str | bytes] = list(parent)
    return [n.decode("utf-8", "surrogateescape") if isinstance(n, bytes) else n for n in names]


def has_member(parent: h5py.Group, name: str, location: Location) -> bool:
    """Return whether a group has a member of a name, without following links.

    Args:
        parent: The group.
        name: The name.
        location: Where the group is, for messages.
    """
    with read_errors_at(location):
        return name in parent


def group_in(parent: h5py.Group, name: str, location: Location) -> h5py.Group:
    """Open a group by the last component of its path.

    Args:
        parent: The group that it is in.
        name: Its name there.
        location: Where it is, for messages.

    Returns:
        The group.

    Raises:
        DataError: If it is a link or not a group.
    """
    found = _object_in(parent, name, location)
    if not isinstance(found, h5py.h5g.GroupID):
        raise location.error("a group", _kind(found), "Check the layout of the file")
    return h5py.Group(found)


def dataset_in(parent: h5py.Group, name: str, location: Location) -> h5py.Dataset:
    """Open a dataset, as `group_in` opens a group, and check that it is safe to read.

    Returns:
        The dataset.

    Raises:
        DataError: If it is a link, not a dataset, kept outside the file, or absurdly large.
    """
    found = _object_in(parent, name, location)
    if not isinstance(found, h5py.h5d.DatasetID):
        raise location.error(
            "a dataset", _kind(found), "Check the layout, or choose other obs_keys"
        )
    with read_errors_at(location):
        properties = found.get_create_plist()
        _check_storage(properties, location)
        _check_filters(properties, location)
        _check_size(found, properties, location)
        return h5py.Dataset(found)


def number_type(dataset: h5py.Dataset, location: Location) -> np.dtype[np.generic]:
    """Return the type of a dataset's values.

    Raises:
        DataError: If they are not real numbers.
    """
    expected, remedy = "real numbers", "Convert it, or choose other obs_keys"
    try:
        dtype: np.dtype[np.generic] = dataset.dtype
    except (TypeError, ValueError, RuntimeError) as error:
        raise location.error(expected, f"a type without a NumPy equal ({error})", remedy) from error
    if dtype.kind not in "biuf":
        raise location.error(expected, _type_name(dtype), remedy)
    return dtype


def _object_in(parent: h5py.Group, name: str, location: Location) -> h5py.h5g.GroupID:
    if "/" in name:  # a path, on whose way a link could lie
        raise location.error("a name without '/'", quoted(name), "Rename it")
    raw = name.encode("utf-8", "surrogateescape")
    with read_errors_at(location):
        link = parent.id.links.get_info(raw)
        if link.type != h5py.h5l.TYPE_HARD:
            kind = _LINK_NAMES.get(link.type, "a user-defined link")
            raise location.error("data inside the file", kind, _COPY)
        return h5py.h5o.open(parent.id, raw)


def _check_storage(properties: h5py.h5p.PropDCID, location: Location) -> None:
    expected = "data inside the file"
    if properties.get_layout() == h5py.h5d.VIRTUAL:
        raise location.error(expected, "a virtual dataset", _COPY)
    if properties.get_external_count() > 0:
        raise location.error(expected, "external storage", _COPY)


def _check_filters(properties: h5py.h5p.PropDCID, location: Location) -> None:
    compressed = False
    for position in range(properties.get_nfilters()):
        code, _, _, name = properties.get_filter(position)
        if code in _UNSAFE_FILTERS or not h5py.h5z.filter_avail(code):
            label = name.decode("utf-8", "replace") or "no name"
            expected = "one of the filters gzip, lzf, shuffle and fletcher32"
            raise location.error(expected, f"filter {code} ({label})", _REPACK)
        if compressed and code in {SHUFFLE, *COMPRESSIONS}:
            raise location.error("one compression, after shuffling", "several filters", _REPACK)
        compressed = compressed or code in COMPRESSIONS


def _check_size(
    dataset: h5py.h5d.DatasetID, properties: h5py.h5p.PropDCID, location: Location
) -> None:
    space = dataset.get_space()
    if space.get_simple_extent_type() != h5py.h5s.SIMPLE:
        raise location.error("an array [T, ...]", "a single or empty value", "Check the layout")
    item_bytes = dataset.get_type().get_size()
    if properties.get_layout() == h5py.h5d.CHUNKED:
        chunk_bytes = math.prod(properties.get_chunk()) * item_bytes
        if chunk_bytes > MAX_CHUNK_BYTES:
            found = f"chunks of {chunk_bytes / 2**20:.0f} MiB"
            raise location.error(
                "chunks of at most 256 MiB", found, "Repack it with smaller chunks"
            )
    dataset.get_storage_size()  # walks through the list of the chunks
    file = h5py.h5i.get_file_id(dataset)
    check_declared(declared_bytes(dataset), file.get_filesize(), location)


def _kind(found: h5py.h5g.GroupID) -> str:
    if isinstance(found, h5py.h5g.GroupID):
        return "a group"
    return "a dataset" if isinstance(found, h5py.h5d.DatasetID) else "a named data type"


def _type_name(dtype: np.dtype[np.generic]) -> str:
    if dtype.metadata and "vlen" in dtype.metadata:
        item = dtype.metadata["vlen"]
        return "text" if item in (str, bytes) else "rows of varying length"
    names = {"S": "text", "O": "references", "c": "complex numbers", "V": "compound or opaque"}
    return f"{names.get(dtype.kind, 'another type')} ({dtype})"
