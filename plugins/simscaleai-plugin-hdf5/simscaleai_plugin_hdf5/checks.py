"""Checks that reading and writing share: locations, error messages, numbers and texts.

T: timesteps.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np

from simscaleai_core.data.location import Location, quoted

_MAX_QUOTED = 100
_MAX_REASON = 300
_MAX_TEXTS = 100
_MAX_TEXT_BYTES = 65536
_MAX_JSON_BYTES = 2**24
_CHECKSUM = "_crc32"
_NUMBERS = (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.ENUM, h5py.h5t.BITFIELD)
_STORE_IT = "Store it as one text in UTF-8, or as a list of them"

_RAISED = (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError)

FIX_RECORDER = "Fix what records it"
"""The remedy for an episode that is not sound when it is to be written."""


def read_errors_at(location: Location) -> _ReadErrors:
    """Turn whatever the HDF5 library raises in the body of a ``with`` into one clear error.

    Args:
        location: What the body reads, for the message.

    Returns:
        A context manager, which raises a `DataError` if the body could not read.
    """
    return _ReadErrors(location)


class _ReadErrors:
    """See `read_errors_at`; a class, because a generator takes as long as what it guards."""

    __slots__ = ("_location",)

    def __init__(self, location: Location) -> None:
        self._location = location

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, _RAISED):
            raise self._location.error(
                "readable data",
                f"damage ({str(error).strip(chr(39))[:_MAX_REASON]})",
                "Copy the file again from its source, or record it anew",
            ) from error


def has_attribute(owner: h5py.h5g.GroupID, name: str, location: Location) -> bool:
    """Return whether an object has an attribute.

    Args:
        owner: The object.
        name: Name of the attribute.
        location: Where the object is, for messages.
    """
    with read_errors_at(location):
        found: bool = h5py.h5a.exists(owner, name.encode())
        return found


def texts_attribute(owner: h5py.h5g.GroupID, name: str, location: Location) -> tuple[str, ...]:
    """Read an attribute that holds a text or a list of texts, stored as text or as bytes.

    Args:
        owner: The object that has the attribute.
        name: Name of the attribute.
        location: Where the object is, for messages.

    Returns:
        The texts; none if there is no such attribute.

    Raises:
        DataError: If the attribute is no text in UTF-8.
    """
    if not has_attribute(owner, name, location):
        return ()
    here = location.at(key=f"@{name}")
    with read_errors_at(here):
        _check_texts(owner, name, here)
        value: Any = h5py.AttributeManager(h5py.Group(owner))[name]
    values = value.reshape(-1).tolist() if isinstance(value, np.ndarray) else [value]
    raw = [_raw_text(v.item() if isinstance(v, np.generic) else v, here) for v in values]
    _check_checksum(owner, name, raw, here)
    return tuple(text.decode() for text in raw)


def text_attribute(owner: h5py.h5g.GroupID, name: str, location: Location) -> str | None:
    """Read an attribute that holds one text; see `texts_attribute`.

    Returns:
        The text, or None if there is no such attribute.

    Raises:
        DataError: If the attribute is no text in UTF-8, or several.
    """
    found = texts_attribute(owner, name, location)
    if len(found) > 1:
        raise location.at(key=f"@{name}").error("one text", f"{len(found)} texts", "Store one")
    return found[0] if found else None


def json_attribute(owner: h5py.h5g.GroupID, name: str, location: Location) -> dict[str, Any]:
    """Read a text attribute that holds a JSON object.

    Args:
        owner: The object that has the attribute.
        name: Name of the attribute.
        location: Where the object is, for messages.

    Returns:
        The object; an empty one if there is no such attribute.

    Raises:
        DataError: If the attribute holds something else.
    """
    if not has_attribute(owner, name, location):
        return {}
    here = location.at(key=f"@{name}")
    with read_errors_at(here):
        _check_texts(owner, name, here, most=1, max_bytes=_MAX_JSON_BYTES)
        value: Any = h5py.AttributeManager(h5py.Group(owner))[name]
    raw = _raw_text(value.item() if hasattr(value, "item") else value, here, _MAX_JSON_BYTES)
    return json_object(raw, here)


def json_object(raw: str | bytes, location: Location) -> dict[str, Any]:
    """Return the JSON object that a text holds.

    Args:
        raw: The text.
        location: Where it is, for messages.

    Returns:
        The object.

    Raises:
        DataError: If it holds something else.
    """
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise location.error("a JSON object", f"other text ({error})", "Repair it") from error
    if not isinstance(found, dict):
        raise location.error("a JSON object", f"a JSON {type(found).__name__}", "Repair it")
    return found


def truth_attribute(owner: h5py.h5g.GroupID, name: str, location: Location) -> bool | None:
    """Read an attribute that says whether something is so.

    Args:
        owner: The object that has the attribute.
        name: Name of the attribute.
        location: Where the object is, for messages.

    Returns:
        Whether all its numbers are other than zero, or None if there is no such attribute.

    Raises:
        DataError: If the attribute is no number.
    """
    value = _numbers_of(owner, name, location, "true or false", "Store it as one number or bool")
    return None if value is None else bool(np.all(value))


def number_attribute(owner: h5py.h5g.GroupID, name: str, location: Location) -> float | None:
    """Read an attribute that holds one number.

    Args:
        owner: The object that has the attribute.
        name: Name of the attribute.
        location: Where the object is, for messages.

    Returns:
        The number, or None if there is no such attribute.

    Raises:
        DataError: If the attribute is no number.
    """
    value = _numbers_of(owner, name, location, "a number", "Store it as one number")
    return None if value is None else float(np.asarray(value).reshape(-1)[0])


def store_text(owner: h5py.Group, name: str, text: str | Sequence[str]) -> None:
    """Write a text attribute, and a checksum of it beside it: HDF5 keeps none of texts.

    Args:
        owner: The group that gets the attribute.
        name: Name of the attribute.
        text: The text, or a list of texts; see `check_text`.
    """
    texts = [text] if isinstance(text, str) else list(text)
    owner.attrs[name] = text if isinstance(text, str) else texts
    owner.attrs[f"{name}{_CHECKSUM}"] = np.uint32(_crc32([each.encode() for each in texts]))


def check_text(value: str, location: Location) -> None:
    """Check that a text can be stored.

    Args:
        value: The text.
        location: Where it is to go, for messages.

    Raises:
        DataError: If it is no text, or not storable in UTF-8.
    """
    if not isinstance(value, str):
        raise location.error("text", f"{type(value).__name__} {value!r}", FIX_RECORDER)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise location.error("text in UTF-8", repr(value), FIX_RECORDER) from error
    if "\0" in value:
        raise location.error("text without NUL characters", repr(value), FIX_RECORDER)
    check_text_size(len(value.encode()), location)


def check_text_size(size: int, location: Location, most: int = _MAX_TEXT_BYTES) -> None:
    """Check the size of a text.

    Args:
        size: Its size [bytes].
        location: Where it is, for messages.
        most: The largest that is taken [bytes].

    Raises:
        DataError: If it is larger.
    """
    if size > most:
        raise location.error(f"a text of at most {most} bytes", f"{size} bytes", "Shorten it")


def text_of(value: Any, location: Location) -> str:
    """Return a text that h5py gave as text or as bytes.

    Args:
        value: What h5py gave.
        location: Where it is, for messages.

    Returns:
        The text.

    Raises:
        DataError: If it is no text in UTF-8, or a very long one.
    """
    return _raw_text(value, location).decode()


def _raw_text(value: Any, location: Location, max_bytes: int = _MAX_TEXT_BYTES) -> bytes:
    if not isinstance(value, str | bytes):
        raise location.error("one text", _kind(value), _STORE_IT)
    try:
        raw = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
        check_text_size(len(raw), location, max_bytes)
        raw.decode("utf-8")
    except UnicodeError as error:
        raise location.error("text in UTF-8", repr(value[:_MAX_QUOTED]), _STORE_IT) from error
    return raw


def _numbers_of(
    owner: h5py.h5g.GroupID, name: str, location: Location, expected: str, remedy: str
) -> Any:
    if not has_attribute(owner, name, location):
        return None
    here = location.at(key=f"@{name}")
    with read_errors_at(here):
        is_number = _attribute(owner, name).get_type().get_class() in _NUMBERS
        value: Any = h5py.AttributeManager(h5py.Group(owner))[name] if is_number else None
        if value is None or isinstance(value, h5py.Empty) or not np.size(value):
            raise here.error(expected, "another type", remedy)
        return value


def _attribute(owner: h5py.h5g.GroupID, name: str) -> h5py.h5a.AttrID:
    return h5py.h5a.open(owner, name.encode())


def _check_texts(
    owner: h5py.h5g.GroupID,
    name: str,
    location: Location,
    most: int = _MAX_TEXTS,
    max_bytes: int = _MAX_TEXT_BYTES,
) -> None:
    # An array of texts can name one long text many times over: look before reading.
    attribute = _attribute(owner, name)
    kind = attribute.get_type()
    shape = attribute.get_space().get_simple_extent_dims() or ()  # None if it is empty
    expected = f"one text or a list of at most {most}" if most > 1 else "one text"
    if math.prod(shape) > most:
        raise location.error(expected, f"an array {list(shape)}", _STORE_IT)
    if kind.get_class() not in (h5py.h5t.STRING, *_NUMBERS):
        raise location.error(expected, "another type", _STORE_IT)
    check_text_size(kind.get_size(), location, max_bytes)


def _check_checksum(
    owner: h5py.h5g.GroupID, name: str, raw: Sequence[bytes], location: Location
) -> None:
    checksum = f"{name}{_CHECKSUM}"
    with read_errors_at(location):
        if not h5py.h5a.exists(owner, checksum.encode()):
            return
        is_number = _attribute(owner, checksum).get_type().get_class() in _NUMBERS
        stored: Any = h5py.AttributeManager(h5py.Group(owner))[checksum] if is_number else None
        if is_number and int(stored) == _crc32(raw):
            return
    raise location.error(
        "the text that was recorded",
        quoted(raw[0].decode()) if raw else "none",
        f"If you have changed it, delete the attribute {checksum!r}; if not, copy the file again",
    )


def _crc32(raw: Sequence[bytes]) -> int:
    return zlib.crc32(b"\0".join(raw))


def _kind(value: object) -> str:
    if isinstance(value, h5py.Empty):
        return "an empty value"
    if isinstance(value, np.ndarray):
        return f"an array {list(value.shape)} of {value.dtype}"
    return f"{type(value).__name__} {value!r}"
