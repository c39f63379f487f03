"""Whether a path is a replay buffer, from a quick look with the standard library."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

EPISODE_ENDS = "meta/episode_ends"
"""The array that says where episodes end, in every replay buffer."""
METADATA_NAMES = (".zarray", "zarr.json")
"""Files that describe an array, in versions 2 and 3 of the format."""

_MARKS = tuple(f"{EPISODE_ENDS}/{name}" for name in METADATA_NAMES)


def reads(path: Path) -> bool:
    """Return whether a path is a folder or zip file with ``data/`` and ``meta/episode_ends``."""
    try:
        if path.is_dir():
            return (path / "data").is_dir() and any((path / mark).is_file() for mark in _MARKS)
        if path.suffix != ".zip" or not path.is_file():
            return False
        with zipfile.ZipFile(path) as archive:
            return len(roots_of(archive.namelist())) == 1
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile):
        return False


def roots_of(names: Iterable[str]) -> list[str]:
    """Return where replay buffers begin in an archive, from the names of its files.

    Example:
        >>> roots_of(["pusht.zarr/meta/episode_ends/.zarray", "pusht.zarr/data/action/.zarray"])
        ['pusht.zarr/']
        >>> roots_of(["meta/episode_ends/.zarray"])
        ['']
    """
    marked = (name.removesuffix(mark) for name in names for mark in _MARKS if name.endswith(mark))
    return sorted({root for root in marked if not root or root.endswith("/")})
