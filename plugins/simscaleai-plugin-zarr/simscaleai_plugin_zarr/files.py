"""The files of a store: a folder, or a zip archive that is read in place.

What lies in an archive is found by its name in the archive; nothing is ever unpacked.
"""

from __future__ import annotations

import json
import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from attrs import frozen

from simscaleai_core.data.location import Location, listed
from simscaleai_plugin_zarr.detect import METADATA_NAMES, roots_of

_REPLAY_BUFFER = "a folder or zip file with data/ and meta/episode_ends"
_MAX_METADATA_BYTES = 2**20


class Files(Protocol):
    """Files by their names, such as ``"data/img/0.0.0.0"``."""

    def size(self, name: str) -> int | None:
        """Return the size of a plain file [bytes], or None if there is none of this name."""

    def read(self, name: str) -> bytes:
        """Return the content of a file that is there."""

    def arrays(self) -> Iterator[str]:
        """Return the names of the files that describe arrays, in any order."""


@contextmanager
def open_files(path: Path) -> Iterator[tuple[Files, str]]:
    """Open a store.

    Args:
        path: The folder or archive.

    Yields:
        Its files, and the name in an archive below which they lie.

    Raises:
        DataError: If it is not there, or no replay buffer.
    """
    location = Location(path=path)
    if path.is_dir():
        yield Folder(path), ""
        return
    try:
        with zipfile.ZipFile(path) as archive:
            roots = roots_of(archive.namelist())
            if len(roots) != 1:
                found = f"{len(roots)}: {listed(roots)}" if roots else "none"
                raise location.error("one replay buffer in the archive", found, "Name another file")
            yield Archive(archive, roots[0]), roots[0]
    except FileNotFoundError as error:
        raise location.error(_REPLAY_BUFFER, "nothing there", "Check the path") from error
    except (OSError, zipfile.BadZipFile) as error:
        found = f"no readable zip file ({error})"
        raise location.error(_REPLAY_BUFFER, found, "Copy it again") from error


@frozen
class Folder:
    """Files of a folder; links are followed, because tools that keep versions of data use them."""

    path: Path

    def size(self, name: str) -> int | None:
        """See `Files`."""
        try:
            status = os.stat(f"{self.path}/{name}")  # noqa: PTH116 - for every chunk
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def read(self, name: str) -> bytes:
        """See `Files`."""
        return (self.path / name).read_bytes()

    def arrays(self) -> Iterator[str]:
        """See `Files`; folders below an array hold its chunks and are not looked at."""
        seen: set[tuple[int, int]] = set()  # a link may lead back
        for folder, below, names in os.walk(self.path, followlinks=True):
            status = os.stat(folder)  # noqa: PTH116 - os.walk gives text
            here = (status.st_dev, status.st_ino)
            parent = os.path.relpath(folder, self.path)
            found = [] if here in seen else _arrays_among(self, (f"{parent}/{n}" for n in names))
            yield from (name.removeprefix("./") for name in found)
            if found or here in seen:
                below.clear()
            seen.add(here)


@frozen
class Archive:
    """Files of a zip archive, all of which lie below one name."""

    _archive: zipfile.ZipFile
    _root: str

    def size(self, name: str) -> int | None:
        """See `Files`."""
        member = self._archive.NameToInfo.get(self._root + name)
        return None if member is None or member.is_dir() else member.file_size

    def read(self, name: str) -> bytes:
        """See `Files`."""
        return self._archive.read(self._root + name)

    def arrays(self) -> Iterator[str]:
        """See `Files`."""
        names = (n for n in self._archive.NameToInfo if n.startswith(self._root))
        yield from _arrays_among(self, (name.removeprefix(self._root) for name in names))


def _arrays_among(files: Files, names: Iterator[str]) -> list[str]:
    """Return the names of files that describe arrays, not groups."""
    found = []
    for name in names:
        kind = name.rpartition("/")[2]
        if kind in METADATA_NAMES and (kind == ".zarray" or _is_array(files, name)):
            found.append(name)
    return found


def _is_array(files: Files, name: str) -> bool:
    """Return whether a ``zarr.json`` describes an array; what is damaged is looked at later."""
    try:
        described = json.loads(metadata_of(files, name))
    except (ValueError, RecursionError):
        return True
    return not (isinstance(described, dict) and described.get("node_type") == "group")


def metadata_of(files: Files, name: str) -> bytes:
    """Return the content of a small file.

    Args:
        files: The files.
        name: Its name.

    Returns:
        The content.

    Raises:
        ValueError: If it is not there, or not small.
    """
    size = files.size(name)
    if size is None or size > _MAX_METADATA_BYTES:
        raise ValueError("no plain file" if size is None else f"{size} bytes of description")
    return files.read(name)
