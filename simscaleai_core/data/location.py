"""Where something is in a data set, and the one line that says what is wrong with it there.

T: timesteps.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from attrs import frozen

from simscaleai_core.errors import DataError

_MAX_LISTED = 8
_MAX_QUOTED = 100


@frozen(kw_only=True)
class Location:
    """A location in a file or folder, for messages."""

    path: Path
    """The file or folder."""
    episode: str | None = None
    """Name of the episode."""
    key: str | None = None
    """Name of the observation key or dataset."""

    def at(self, *, episode: str | None = None, key: str | None = None) -> Location:
        """Return a location further inside."""
        return Location(path=self.path, episode=episode or self.episode, key=key or self.key)

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


def _one_line(text: str) -> str:
    joined = " ".join(text.split())
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in joined)
    return "".join(escaped)
