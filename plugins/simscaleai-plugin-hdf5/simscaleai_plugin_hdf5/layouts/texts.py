"""Find what an episode was told, however its recorder stored that.

T: timesteps of an episode.
"""

from __future__ import annotations

from typing import Any

import h5py

from simscaleai_core.data.location import Location
from simscaleai_plugin_hdf5.checks import read_errors_at, text_of, texts_attribute, truth_attribute
from simscaleai_plugin_hdf5.layouts.layout import Changes, Found, Texts
from simscaleai_plugin_hdf5.reading.allowance import Allowance
from simscaleai_plugin_hdf5.reading.apart import still_alive
from simscaleai_plugin_hdf5.reading.blobs import Blobs, blobs_of, reader_of
from simscaleai_plugin_hdf5.reading.guard import member_of, stored_in
from simscaleai_plugin_hdf5.reading.timesteps import Stored

INSTRUCTIONS = (
    "language", "language_instruction", "language_instructions", "instruction", "instructions",
    "lang", "language_raw", "task_description",
)  # fmt: skip
"""Names under which recorders store what an episode was told, the first that is there first."""
_MAX_TEXTS = 100


def told(found: Found) -> Texts:
    """Return what an episode was told, from an attribute or a dataset with a known name.

    Args:
        found: The episode, or the root of a file.

    Returns:
        The different texts, in the order of the data.
    """
    texts = _in_attribute(found)
    stored = None if texts else _in_dataset(found)
    if stored is None:
        return texts
    return tuple(dict.fromkeys(texts_of(stored, found.location, found.allowance)))


def told_when(found: Found, length: int) -> Changes:
    """Return from which timestep on an episode was told what, if that is stored.

    Args:
        found: The episode.
        length: Its timesteps.
    """
    stored = None if _in_attribute(found) else _in_dataset(found)
    return () if stored is None else changes_of(stored, found.location, found.allowance, length)


def _in_attribute(found: Found) -> Texts:
    with read_errors_at(found.location):
        has_attributes = h5py.h5a.get_num_attrs(found.group) > 0
    names = INSTRUCTIONS if has_attributes else ()
    texts = (texts_attribute(found.group, name, found.location) for name in names)
    return next(filter(None, texts), ())


def _in_dataset(found: Found) -> Stored | None:
    for name in INSTRUCTIONS:
        if name in found.names:
            here = found.location.at(key=name)
            dataset = member_of(found.group, name, here)
            if isinstance(dataset, h5py.h5d.DatasetID):
                stored = stored_in(dataset, here, found.allowance.stored_bytes)
                if holds_text(stored, here):
                    return stored
    return None


def marked_success(found: Found) -> bool | None:
    """Return whether an episode is marked as successful, by its attribute."""
    return truth_attribute(found.group, "success", found.location)


def holds_text(stored: Stored, location: Location) -> bool:
    """Return whether the values of a dataset are texts or bytes of one size.

    Args:
        stored: The dataset.
        location: Where it is, for messages.
    """
    with read_errors_at(location):
        found: bool = h5py.h5t.decode(stored.encoded_type).get_class() == h5py.h5t.STRING
        return found


def texts_of(stored: Stored, location: Location, allowance: Allowance) -> list[str]:
    """Read the texts of a dataset, in a process apart.

    Args:
        stored: A dataset that `holds_text`.
        location: Where it is, for messages.
        allowance: What may still be read.

    Returns:
        Its texts in their order, each only where it differs from the one before.
    """
    return [text for _, text in _stretches(stored, location, allowance)]


def changes_of(stored: Stored, location: Location, allowance: Allowance, length: int) -> Changes:
    """Return from which timestep on which text holds, if there is one for each timestep.

    Args:
        stored: A dataset that `holds_text`.
        location: Where it is, for messages.
        allowance: What may still be read.
        length: Timesteps of the episode.

    Returns:
        First timestep and text of each stretch; nothing if there is one text for all, or if no two
        neighbours are the same: those are other words for the same.
    """
    count = stored.shape[0] if stored.is_array else 0
    found = _stretches(stored, location, allowance)
    if not (length <= count <= length + 1 and 1 < len(found) < count):
        return ()
    return tuple((start, text) for start, text in found if start < length)


def _stretches(stored: Stored, location: Location, allowance: Allowance) -> list[tuple[int, str]]:
    allowance.take(stored.num_bytes)
    if not stored.is_array:
        with read_errors_at(location):
            value: Any = h5py.Dataset(stored.id)[()]
        return [(0, text_of(value, location))]
    found: list[tuple[int, str]] = []
    reader = reader_of(stored, location)
    for start in range(0, stored.shape[0], _MAX_TEXTS):
        still_alive()
        stop = min(start + _MAX_TEXTS, stored.shape[0])
        if isinstance(reader, Blobs):
            block = [blob for blobs in reader.read_apart(start, stop) for blob in blobs]
        else:
            block = list(blobs_of(reader.read(start, stop).reshape(-1)))
        allowance.take(sum(map(len, block)))
        for place, raw in enumerate(block, start=start):
            text = text_of(raw, location)
            if not found or found[-1][1] != text:
                found.append((place, text))
    return found
