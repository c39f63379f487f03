"""Checks that reading and writing share: locations, error messages, numbers and texts.

T: timesteps.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from attrs import evolve, frozen

from simscaleai_core.errors import DataError

_MAX_LISTED = 8
_MAX_QUOTED = 100
_MAX_REASON = 300
_MAX_TEXT_BYTES = 65536
_CHECKSUM = "_crc32"
_NUMBERS = (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.ENUM, h5py.h5t.BITFIELD)

FIX_RECORDER = "Fix what records it"
"""The remedy for an episode that is not sound when it is to be written."""


@frozen(kw_only=True)
class Location:
    """A location in a file, for messages."""

    path: Path
    """The file."""
    episode: str | None = None
    """Name of the episode."""
    key: str | None = None
    """Name of the observation key or dataset."""

    def at(self, *, episode: str | None = None, key: str | None = None) -> Location:
        """Return a location further inside."""
        return evolve(self, episode=episode or self.episode, key=key or self.key)

    @property
    def subject(self) -> str:
        """Return the location inside the file in words."""
        names = [] if self.key is None else [f"field {quoted(self.key)}"]
        if self.episode is not None:
            names.append(self.episode)
        return " of ".join(names) or "the file"

    def error(self, expected: str, found: str, remedy: str, *, fact: str = "") -> DataError:
        """Return the error for something found here.

        Args:
            expected: What should have been there.
            found: What is there.
            remedy: One thing to do, a sentence without its full stop.
            fact: The problem in words; the location itself if it says enough.

        Returns:
            The error, its message on one line.
        """
        text = f"{fact or self.subject}: expected {expected}, got {found} @ {self.path}. {remedy}."
        return DataError(_one_line(text), path=self.path, episode=self.episode, key=self.key)


@contextmanager
def read_errors_at(location: Location) -> Iterator[None]:
    """Turn whatever the HDF5 library raises in the body into one clear error.

    Raises:
        DataError: If the body could not read its part of the file.
    """
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as error:
        raise location.error(
            "readable data",
            f"damage ({str(error).strip(chr(39))[:_MAX_REASON]})",
            "Copy the file again from its source, or record it anew",
        ) from error


def listed(names: Iterable[str]) -> str:
    """Return names quoted, sorted and cut short, for a message."""
    shown = sorted(names)
    rest = [f"and {len(shown) - _MAX_LISTED} more"] if len(shown) > _MAX_LISTED else []
    return ", ".join([*map(quoted, shown[:_MAX_LISTED]), *rest]) or "nothing"


def quoted(text: str) -> str:
    """Return a name or text from a file in quotes, cut short, for a message."""
    return repr(text) if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]!r}..."


def finite_rows(
    values: npt.NDArray[np.generic], width: int, location: Location, *, first_step: int = 0
) -> npt.NDArray[np.float32]:
    """Convert values to float32 rows and check each of them.

    Args:
        values: Real numbers `[T, ...]`.
        width: Numbers in one timestep.
        location: Where they are, for messages.
        first_step: The timestep of the first row, for messages.

    Returns:
        The same numbers, float32 `[T, width]`.

    Raises:
        DataError: If a value is NaN, infinite, or too large for float32.
    """
    with np.errstate(over="ignore"):
        rows = values.reshape(len(values), width).astype(np.float32)
    finite = np.isfinite(rows)
    if not finite.all():
        step, dimension = (int(i) for i in np.unravel_index(int(finite.argmin()), rows.shape))
        value = values.reshape(len(values), width)[step, dimension]
        raise location.error(
            "finite float32 numbers",
            f"{value} at timestep {first_step + step}, dimension {dimension}",
            "Remove or repair the episode",
        )
    return rows


def text_attribute(owner: h5py.Group, name: str, location: Location) -> str | None:
    """Read a text attribute, whether it was stored as text, bytes or an array of one of them.

    Args:
        owner: The group that has the attribute.
        name: Name of the attribute.
        location: Where the group is, for messages.

    Returns:
        The text, or None if there is no such attribute.

    Raises:
        DataError: If the attribute is no text in UTF-8.
    """
    here = location.at(key=f"@{name}")
    with read_errors_at(here):
        if name not in owner.attrs:
            return None
        _check_one_text(owner, name, here)
        value: Any = owner.attrs[name]
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, np.generic):
        value = value.item()
    remedy = "Store it as one text in UTF-8"
    if not isinstance(value, str | bytes):
        raise here.error("one text", _kind(value), remedy)
    try:
        raw = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
        _check_text_size(len(raw), here)
        text = raw.decode("utf-8")
    except UnicodeError as error:
        raise here.error("text in UTF-8", repr(value[:_MAX_QUOTED]), remedy) from error
    _check_checksum(owner, name, raw, here)
    return text


def store_text(owner: h5py.Group, name: str, text: str) -> None:
    """Write a text attribute, and a checksum of it beside it: HDF5 keeps none of texts.

    Args:
        owner: The group that gets the attribute.
        name: Name of the attribute.
        text: The text; see `check_text`.
    """
    owner.attrs[name] = text
    owner.attrs[f"{name}{_CHECKSUM}"] = np.uint32(zlib.crc32(text.encode()))


def truth_attribute(owner: h5py.Group, name: str, location: Location) -> bool | None:
    """Read an attribute that says whether something is so.

    Args:
        owner: The group that has the attribute.
        name: Name of the attribute.
        location: Where the group is, for messages.

    Returns:
        Whether all its numbers are other than zero, or None if there is no such attribute.

    Raises:
        DataError: If the attribute is no number.
    """
    here = location.at(key=f"@{name}")
    with read_errors_at(here):
        if name not in owner.attrs:
            return None
        is_number = _attribute(owner, name).get_type().get_class() in _NUMBERS
        value: Any = owner.attrs[name] if is_number else None
        if value is None or isinstance(value, h5py.Empty):
            raise here.error("true or false", "another type", "Store it as one number or bool")
        return bool(np.all(value))


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
    _check_text_size(len(value.encode()), location)


def _attribute(owner: h5py.Group, name: str) -> h5py.h5a.AttrID:
    return h5py.h5a.open(owner.id, name.encode())


def _check_one_text(owner: h5py.Group, name: str, location: Location) -> None:
    # An array of texts can name one long text many times over: look before reading.
    attribute = _attribute(owner, name)
    kind, remedy = attribute.get_type(), "Store it as one text in UTF-8"
    shape = attribute.get_space().get_simple_extent_dims() or ()  # None if it is empty
    if math.prod(shape) > 1:
        raise location.error("one text", f"an array {list(shape)}", remedy)
    if kind.get_class() not in (h5py.h5t.STRING, *_NUMBERS):
        raise location.error("one text", "another type", remedy)
    _check_text_size(kind.get_size(), location)


def _check_checksum(owner: h5py.Group, name: str, raw: bytes, location: Location) -> None:
    checksum = f"{name}{_CHECKSUM}"
    with read_errors_at(location):
        if checksum not in owner.attrs:
            return
        is_number = _attribute(owner, checksum).get_type().get_class() in _NUMBERS
        if is_number and int(owner.attrs[checksum]) == zlib.crc32(raw):
            return
    raise location.error(
        "the text that was recorded",
        quoted(raw.decode()),
        f"If you have changed it, delete the attribute {checksum!r}; if not, copy the file again",
    )


def _check_text_size(size: int, location: Location) -> None:
    if size > _MAX_TEXT_BYTES:
        expected = f"a text of at most {_MAX_TEXT_BYTES} bytes"
        raise location.error(expected, f"{size} bytes", "Shorten it")


def _one_line(text: str) -> str:
    joined = " ".join(text.split())
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in joined)
    return "".join(escaped)


def _kind(value: object) -> str:
    if isinstance(value, h5py.Empty):
        return "an empty value"
    if isinstance(value, np.ndarray):
        return f"an array {list(value.shape)} of {value.dtype}"
    return f"{type(value).__name__} {value!r}"
