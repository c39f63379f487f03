"""Checks that reading and writing share: locations, error messages, numbers and texts.

T: timesteps.
"""

from __future__ import annotations

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
        names = [] if self.key is None else [f"field {self.key!r}"]
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
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise location.error(
            "readable data",
            f"damage ({str(error).strip(chr(39))})",
            "Copy the file again from its source, or record it anew",
        ) from error


def listed(names: Iterable[str]) -> str:
    """Return names quoted, sorted and cut short, for a message."""
    quoted = [repr(name) for name in sorted(names)]
    if len(quoted) > _MAX_LISTED:
        rest = len(quoted) - _MAX_LISTED
        quoted = [*quoted[:_MAX_LISTED], f"and {rest} more"]
    return ", ".join(quoted) or "nothing"


def finite_rows(
    values: npt.NDArray[np.generic], width: int, location: Location
) -> npt.NDArray[np.float32]:
    """Convert values to float32 rows and check each of them.

    Args:
        values: Real numbers `[T, ...]`.
        width: Numbers in one timestep.
        location: Where they are, for messages.

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
            f"{value} at timestep {step}, dimension {dimension}",
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
        return raw.decode("utf-8")
    except UnicodeError as error:
        raise here.error("text in UTF-8", f"{value!r}", remedy) from error


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


def _one_line(text: str) -> str:
    joined = " ".join(text.split())
    return joined.encode("utf-8", "backslashreplace").decode("utf-8")


def _kind(value: object) -> str:
    if isinstance(value, h5py.Empty):
        return "an empty value"
    if isinstance(value, np.ndarray):
        return f"an array {list(value.shape)} of {value.dtype}"
    return f"{type(value).__name__} {value!r}"
