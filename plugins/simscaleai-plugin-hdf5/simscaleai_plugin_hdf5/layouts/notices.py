"""What is left out of a file, told once for all its episodes."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from attrs import define, field

from simscaleai_core.data.location import listed, quoted


@define
class Notices:
    """Collects what to tell.

    Args:
        path: The file or folder.
    """

    path: Path
    beside: Counter[str] = field(factory=Counter, init=False)
    """Members of episodes that nothing reads, and in how many they are."""
    texts: list[str] = field(factory=list, init=False)
    """Instructions that could not be read."""

    def tell(self, left_out: Mapping[str, str]) -> None:
        """Give one warning for each kind.

        Args:
            left_out: Observations that are not read, and what they are.
        """
        where = f"@ {self.path}."
        if left_out:
            named = [f"{quoted(key)} ({left_out[key]})" for key in sorted(left_out)]
            _warn(f"not read as observations: {', '.join(named[:8])} {where}")
        if self.beside:
            _warn(f"beside the observations, and not read: {listed(self.beside)} {where}")
        if self.texts:
            rest = f" So in {len(self.texts) - 1} more episodes." if self.texts[1:] else ""
            _warn(f"{self.texts[0]}{rest}")


def _warn(text: str) -> None:
    joined = " ".join(text.split())
    shown = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in joined)
    warnings.warn("".join(shown), stacklevel=3)
