"""Which paths code writes to, as the interpreter reports it."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR
_watching: list[set[Path]] = []


@contextmanager
def watched_writes() -> Iterator[set[Path]]:
    """Watch which files the body opens for writing, and which it moves away.

    What a library writes without Python is seen only once Python moves it.

    Yields:
        The paths, which grow while the body runs.
    """
    _listen()
    found: set[Path] = set()
    _watching.append(found)
    try:
        yield found
    finally:
        _watching.remove(found)


@functools.cache
def _listen() -> None:
    """Have the interpreter report for as long as it runs: it lets no listener go."""
    sys.addaudithook(_note)


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    is_written = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING
    path = arguments[0] if is_written or event == "os.rename" else None
    if isinstance(path, str | bytes | os.PathLike):
        for found in _watching:
            found.add(Path(os.path.abspath(os.fsdecode(path))))  # noqa: PTH100 - links stay links
