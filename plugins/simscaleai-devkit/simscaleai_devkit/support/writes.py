"""Which paths code writes to, as the interpreter reports it."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import define, field

_WRITING = os.O_WRONLY | os.O_RDWR
_watching: list[Writes] = []


@define(eq=False)
class Writes:
    """Paths that were written to."""

    opened: set[Path] = field(factory=set)
    """Files that were opened for writing."""
    moved: set[Path] = field(factory=set)
    """Files and directories that were given another name; under the old one."""


@contextmanager
def watched_writes() -> Iterator[Writes]:
    """Watch which files the body opens for writing, and which it moves away.

    What a library writes without Python is seen only once Python moves it.

    Yields:
        The paths, which grow while the body runs.
    """
    _listen()
    found = Writes()
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
    if not _watching or event not in {"open", "os.rename"}:
        return
    path, flags = arguments[0], arguments[2]
    is_written = event == "os.rename" or (isinstance(flags, int) and flags & _WRITING)
    if is_written and isinstance(path, str | bytes | os.PathLike):
        absolute = Path(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100 - links stay links
        for found in _watching:
            (found.moved if event == "os.rename" else found.opened).add(absolute)
