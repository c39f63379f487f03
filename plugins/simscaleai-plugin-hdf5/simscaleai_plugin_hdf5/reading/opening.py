"""Open files for reading, or raise one clear error; keep them open per process."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py

from simscaleai_core.data.location import Location
from simscaleai_plugin_hdf5.checks import read_errors_at
from simscaleai_plugin_hdf5.reading.blobs import Blobs, reader_of
from simscaleai_plugin_hdf5.reading.guard import dataset_in, group_in
from simscaleai_plugin_hdf5.reading.timesteps import Timesteps
from simscaleai_plugin_hdf5.stored import FileStamp, StoredFile

Names = tuple[str, ...]

_AN_HDF5_FILE = "an HDF5 file"
_MAX_OPEN_DATASETS = 4096
_MAX_OPEN_FILES = 256
_WAIT = "Wait until it has finished, or read a copy"


def open_file(
    path: Path, *, expected_stamp: FileStamp | None = None, chunk_cache_bytes: int = 0
) -> h5py.File:
    """Open a file for reading.

    Args:
        path: The file.
        expected_stamp: The state that the file must still have; any if not given.
        chunk_cache_bytes: How much of a dataset's chunks is kept decoded.

    Returns:
        The open file.

    Raises:
        DataError: If it cannot be opened, or is not the file that it was.
    """
    check_before_opening(path)
    forbid_filter_plugins()
    try:
        file = h5py.File(path, "r", rdcc_nbytes=chunk_cache_bytes)
    except OSError as error:
        raise Location(path=path).error(*_refusal(str(error))) from error
    if expected_stamp is not None and file_stamp(path) != expected_stamp:
        file.close()
        raise Location(path=path).error(
            "the file as it was when it was first read",
            "a file of another size or time",
            "Do not replace data while it is in use; start again to use the new file",
            fact="the file has changed",
        )
    return file


class OpenFiles:
    """Opens datasets of some files, when first needed; copies in other processes open them anew.

    Args:
        files: The files, and the states that they must still have whenever they are opened.
        chunk_cache_bytes: How much of a dataset's chunks is kept decoded; none, because most
            readers take every chunk once.
    """

    def __init__(self, files: Sequence[StoredFile], chunk_cache_bytes: int = 0) -> None:
        self._files = files
        self._chunk_cache_bytes = chunk_cache_bytes
        self._pid = os.getpid()
        self._open: dict[int, _OpenFile] = {}

    def timesteps(self, number: int, path: Names, location: Location) -> Timesteps | Blobs:
        """Return what reads a dataset.

        Args:
            number: Position of the file.
            path: Names that lead to the dataset.
            location: Where it is, for messages.

        Returns:
            A reader of its timesteps; of `Blobs` if they vary in size.

        Raises:
            DataError: If the file is not the one that was audited, or is damaged.
        """
        if self._pid != os.getpid():
            self._forget()
        file = self._open.get(number)
        if file is None:
            if len(self._open) >= _MAX_OPEN_FILES:
                self._open.pop(next(iter(self._open))).close()
            stored = self._files[number]
            file = self._open[number] = _OpenFile(
                open_file(
                    stored.path,
                    expected_stamp=stored.stamp,
                    chunk_cache_bytes=self._chunk_cache_bytes,
                )
            )
        return file.timesteps(path, location)

    def close(self) -> None:
        """Close the files; they are opened again when they are needed."""
        if self._pid == os.getpid():
            for file in self._open.values():
                file.close()
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._open = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"files": self._files, "chunk_cache_bytes": self._chunk_cache_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


class _OpenFile:
    """One open file, and what is open in it."""

    def __init__(self, file: h5py.File) -> None:
        self._file = file
        self._datasets: dict[Names, Timesteps | Blobs] = {}
        self._last_group: tuple[Names, h5py.h5g.GroupID] | None = None

    def timesteps(self, path: Names, location: Location) -> Timesteps | Blobs:
        found = self._datasets.get(path)
        if found is None:
            if len(self._datasets) >= _MAX_OPEN_DATASETS:
                self._datasets.clear()
            group = self._group(path[:-1], location)
            found = reader_of(dataset_in(group, path[-1:], location), location)
            self._datasets[path] = found
        return found

    def close(self) -> None:
        self._datasets.clear()
        self._last_group = None
        self._file.close()

    def _group(self, path: Names, location: Location) -> h5py.h5g.GroupID:
        if self._last_group is None or self._last_group[0] != path:
            group = root_of(self._file, location)
            for name in path:
                group = group_in(group, name, location)
            self._last_group = (path, group)
        return self._last_group[1]


def root_of(file: h5py.File, location: Location) -> h5py.h5g.GroupID:
    """Return the root group of an open file.

    Args:
        file: The file.
        location: Where it is, for messages.
    """
    with read_errors_at(location):
        return h5py.h5g.open(file.id, b"/")


def file_stamp(path: Path) -> FileStamp:
    """Return the stamp of the file as it is now."""
    status = path.stat()
    return FileStamp(size_bytes=status.st_size, modified_ns=status.st_mtime_ns)


def forbid_filter_plugins() -> None:
    """Empty HDF5's plugin search path: a data file must not decide which library is loaded."""
    while h5py.h5pl.size() > 0:
        h5py.h5pl.remove(0)


def check_before_opening(path: Path) -> None:
    """Check what the operating system says of a file.

    Raises:
        DataError: If it is no plain file that may be read, or empty.
    """
    location = Location(path=path)
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise location.error(_AN_HDF5_FILE, "no such file", "Check the path") from error
    except OSError as error:
        found = error.strerror or str(error)
        raise location.error(_AN_HDF5_FILE, found, "Check the path and its permissions") from error
    if stat.S_ISDIR(status.st_mode):
        raise location.error(_AN_HDF5_FILE, "a directory", "Name a file in it")
    if not stat.S_ISREG(status.st_mode):
        raise location.error(_AN_HDF5_FILE, "something that is not a plain file", "Check the path")
    if status.st_size == 0:
        raise location.error(_AN_HDF5_FILE, "an empty file", "Record it again")
    if not os.access(path, os.R_OK):
        raise location.error(_AN_HDF5_FILE, "no permission to read it", "Check its permissions")


def _refusal(reason: str) -> tuple[str, str, str]:
    """Return what was expected, what was found and what to do, from the message of HDF5."""
    if "truncated file" in reason:
        return "a whole HDF5 file", "a truncated file", "Copy it again from its source"
    if "unable to lock file" in reason:
        return "a finished file", "one being written by another process", _WAIT
    if "already open for write" in reason or "h5clear" in reason:
        return (
            "a finished file",
            "one marked as open for writing (its writer is at work, or died)",
            f"{_WAIT}; if the writer died, run 'h5clear -s' on the file",
        )
    if "signature not found" in reason:
        return _AN_HDF5_FILE, "another kind of file", "Check the path"
    return "a sound HDF5 file", f"damage ({reason})", "Copy it again from its source"
