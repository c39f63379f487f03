"""Open a trajectory file for reading, or raise one clear error; keep it open per process."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import h5py

from simscaleai_plugin_hdf5.checks import Location
from simscaleai_plugin_hdf5.layout import FileStamp
from simscaleai_plugin_hdf5.reading.guard import dataset_in, group_in
from simscaleai_plugin_hdf5.reading.timesteps import Timesteps

_AN_HDF5_FILE = "an HDF5 file"
_MAX_OPEN_DATASETS = 4096
_WAIT = "Wait until it has finished, or read a copy"


def open_file(path: Path, *, expected_stamp: FileStamp | None = None) -> h5py.File:
    """Open a file for reading.

    Args:
        path: The file.
        expected_stamp: The state that the file must still have; any if not given.

    Returns:
        The open file; its chunks are not cached, because readers take every chunk once.

    Raises:
        DataError: If it cannot be opened, or is not the file that it was.
    """
    check_before_opening(path)
    forbid_filter_plugins()
    try:
        file = h5py.File(path, "r", rdcc_nbytes=0)
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


class FileHandle:
    """Opens datasets of one file, when first needed; copies in other processes open it anew.

    Args:
        path: The file.
        stamp: The state that the file must still have whenever it is opened.
    """

    def __init__(self, path: Path, stamp: FileStamp) -> None:
        self._path = path
        self._stamp = stamp
        self._pid = os.getpid()
        self._file: h5py.File | None = None
        self._datasets: dict[tuple[str, str, str], Timesteps] = {}

    def timesteps(self, names: tuple[str, str, str]) -> Timesteps:
        """Return the timesteps of (episode, group, key).

        Raises:
            DataError: If the file is not the one that was audited, or is damaged.
        """
        if self._pid != os.getpid():
            self._forget()
        found = self._datasets.get(names)
        if found is None:
            if len(self._datasets) >= _MAX_OPEN_DATASETS:
                self._datasets.clear()
            found = self._datasets[names] = self._open(names)
        return found

    def close(self) -> None:
        """Close the file; it is opened again when it is needed."""
        if self._file is not None and self._pid == os.getpid():
            self._file.close()
        self._forget()

    def _open(self, names: tuple[str, str, str]) -> Timesteps:
        if self._file is None:
            self._file = open_file(self._path, expected_stamp=self._stamp)
        episode, inner, key = names
        location = Location(path=self._path, episode=episode, key=key)
        group = group_in(group_in(self._file, episode, location), inner, location)
        return Timesteps(dataset_in(group, key, location), location)

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._file = None
        self._datasets = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self._path, "stamp": self._stamp}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"], state["stamp"])  # type: ignore[misc]


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
