"""The one form of every complaint about a trajectory file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import evolve, frozen

from simscaleai_core.errors import DataError

_LONGEST_LIST = 8


@frozen(kw_only=True)
class Place:
    """Where in which file something is."""

    path: Path
    """The file."""
    episode: str | None = None
    """Name of the episode."""
    key: str | None = None
    """Name of the observation key or dataset."""

    def at(self, *, episode: str | None = None, key: str | None = None) -> Place:
        """Return a place further inside."""
        return evolve(self, episode=episode or self.episode, key=key or self.key)

    @property
    def subject(self) -> str:
        """Return the place inside the file in words."""
        names = [] if self.key is None else [f"field {self.key!r}"]
        if self.episode is not None:
            names.append(self.episode)
        return " of ".join(names) or "the file"

    def fault(self, expected: str, found: str, remedy: str, *, fact: str = "") -> DataError:
        """Build the error for something found here.

        Args:
            expected: What should have been there.
            found: What is there.
            remedy: One thing to do, a sentence without its full stop.
            fact: The fault in words; the place itself if it says enough.

        Returns:
            The error, its message on one line.
        """
        text = f"{fact or self.subject}: expected {expected}, got {found} @ {self.path}. {remedy}."
        return DataError(_one_line(text), path=self.path, episode=self.episode, key=self.key)


@contextmanager
def reading(place: Place) -> Iterator[None]:
    """Turn whatever the HDF5 library raises in the body into one clear error.

    Raises:
        DataError: If the body could not read its part of the file.
    """
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise place.fault(
            "readable data",
            f"damage ({str(error).strip(chr(39))})",
            "Copy the file again from its source, or record it anew",
        ) from error


def listed(names: Iterable[str]) -> str:
    """Return names quoted, sorted and cut short, for a message."""
    quoted = [repr(name) for name in sorted(names)]
    if len(quoted) > _LONGEST_LIST:
        rest = len(quoted) - _LONGEST_LIST
        quoted = [*quoted[:_LONGEST_LIST], f"and {rest} more"]
    return ", ".join(quoted) or "nothing"


def _one_line(text: str) -> str:
    joined = " ".join(text.split())
    return joined.encode("utf-8", "backslashreplace").decode("utf-8")
