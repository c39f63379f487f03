"""Whether a path is a LeRobot data set: a look at ``meta/info.json``. Standard library only."""

from __future__ import annotations

import json
from pathlib import Path

INFO = Path("meta", "info.json")
VERSIONS = ("v2", "v3")
"""What the versions of the layout that are read begin with."""


def root_of(path: Path) -> Path:
    """Return the folder of a data set, also for its ``meta`` or ``meta/info.json``."""
    if path.name == INFO.name and path.parent.name == "meta":
        return path.parent.parent
    return path.parent if path.name == "meta" and not (path / INFO).is_file() else path


def reads(path: Path) -> bool:
    """Return whether a path is a LeRobot data set, v2 or v3."""
    try:
        info = json.loads((root_of(Path(path)) / INFO).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    version = info.get("codebase_version") if isinstance(info, dict) else None
    return isinstance(version, str) and version.startswith(VERSIONS) and "features" in info
