"""Take one object out of a file, only if it lies in the file itself and is safe to read.

Files from elsewhere can point at other files, name code to load, or declare sizes that fill the
memory. Each step into a file goes through here, one path component at a time; what lies behind a
link is never opened.
"""

from __future__ import annotations

import math

import h5py
import numpy as np

from simscaleai_plugin_hdf5.checks import Location, read_errors_at

MAX_CHUNK_BYTES = 256 * 2**20
MAX_UNCHECKED_BYTES = 4 * 2**30
MAX_RATIO = 1000

_LINK_NAMES = {h5py.h5l.TYPE_SOFT: "a soft link", h5py.h5l.TYPE_EXTERNAL: "an external link"}
_COPY = "Copy the data itself into the file"


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
    except TypeError as error:
        raise location.error(expected, f"a type without a NumPy equal ({error})", remedy) from error
    if dtype.kind not in "biuf":
        raise location.error(expected, _type_name(dtype), remedy)
    return dtype


def _object_in(parent: h5py.Group, name: str, location: Location) -> h5py.h5g.GroupID:
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
    for position in range(properties.get_nfilters()):
        code, _, _, name = properties.get_filter(position)
        if not h5py.h5z.filter_avail(code):
            label = name.decode("utf-8", "replace") or "no name"
            raise location.error(
                "a filter that is built in (gzip, lzf, shuffle, fletcher32, ...)",
                f"filter {code} ({label})",
                "Repack the file, for example with h5repack -f GZIP=1",
            )


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
    declared = math.prod(space.get_simple_extent_dims()) * item_bytes
    stored = dataset.get_storage_size()
    if declared > MAX_UNCHECKED_BYTES and declared > MAX_RATIO * stored:
        raise location.error(
            f"at most {MAX_RATIO} times the {stored} bytes stored",
            f"a declared size of {declared} bytes",
            "Check where the file comes from",
        )


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
