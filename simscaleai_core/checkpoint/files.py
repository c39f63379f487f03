"""Files and directories that are replaced as a whole, or not at all.

A directory cannot be replaced in one operation: the old one is first moved aside, and is found
there until the new one is in its place.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def aside_path(path: Path) -> Path:
    """Return where the directory of a checkpoint is while it is being replaced."""
    return path.with_name(f".{path.name}.aside")


def size_of(path: Path) -> int:
    """Return the size of a file, or of all files of a directory [bytes]."""
    return sum(file.stat().st_size for file in _files_of(path))


def digest_of(path: Path) -> str:
    """Return the BLAKE2b-256 digest of a file, or of a directory's sorted (name, digest) lines."""
    if not path.is_dir():
        return _file_digest(path)
    names = sorted(file.relative_to(path).as_posix() for file in _files_of(path))
    lines = "".join(f"{_file_digest(path / name)} {name!r}\n" for name in names)
    return hashlib.blake2b(lines.encode(), digest_size=32).hexdigest()


def sync(path: Path) -> None:
    """Bring a file, or a directory with everything in it, to the disk."""
    for file in _files_of(path):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
    if path.is_dir():
        for folder in (path, *(p for p in path.rglob("*") if p.is_dir())):
            _sync_folder(folder)


def replace(temporary: Path, path: Path) -> None:
    """Rename, and bring the renaming to the disk."""
    temporary.replace(path)
    _sync_folder(path.parent)


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """Write a file as a whole, or not at all: a reader sees the old one or the new one.

    Yields:
        A temporary path in the same folder for the body to write to; it takes the name `path` when
        the body is done, and is removed if the body fails.
    """
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    temporary.unlink(missing_ok=True)  # of a killed process with the same number
    try:
        yield temporary
        sync(temporary)
        replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def put_in_place(temporary: Path, path: Path) -> None:
    """Give data its name; an earlier directory of that name waits aside until it is removed."""
    aside = aside_path(path)
    if temporary.is_dir() and path.is_dir():
        remove(aside)
        replace(path, aside)
    try:
        replace(temporary, path)
    except OSError:
        with suppress(OSError):
            settle_aside(aside, path)
        raise


def settle_aside(aside: Path, path: Path) -> None:
    """Bring back what was moved aside, if there is any, unless its successor is in its place."""
    if aside.exists() and not path.exists():
        replace(aside, path)


def remove(path: Path) -> None:
    """Remove a file or a directory with everything in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _files_of(path: Path) -> list[Path]:
    return [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()


def _sync_folder(path: Path) -> None:
    if os.name == "posix":
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
