"""Text kept in HDF5 attributes."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

from simscaleai_plugin_hdf5.faults import Place, reading


def text_attribute(owner: h5py.Group, name: str, place: Place) -> str | None:
    """Read a text attribute, whether it was stored as text, bytes or an array of one of them.

    Args:
        owner: The group that has the attribute.
        name: Name of the attribute.
        place: Where the group is, for messages.

    Returns:
        The text, or None if there is no such attribute.

    Raises:
        DataError: If the attribute is no text in UTF-8.
    """
    here = place.at(key=f"@{name}")
    with reading(here):
        if name not in owner.attrs:
            return None
        value: Any = owner.attrs[name]
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, np.generic):
        value = value.item()
    remedy = "Store it as one text in UTF-8"
    if not isinstance(value, str | bytes):
        raise here.fault("one text", _kind(value), remedy)
    try:
        raw = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
        return raw.decode("utf-8")
    except UnicodeError as error:
        raise here.fault("text in UTF-8", f"{value!r}", remedy) from error


def _kind(value: object) -> str:
    if isinstance(value, h5py.Empty):
        return "an empty value"
    if isinstance(value, np.ndarray):
        return f"an array {list(value.shape)} of {value.dtype}"
    return f"{type(value).__name__} {value!r}"
