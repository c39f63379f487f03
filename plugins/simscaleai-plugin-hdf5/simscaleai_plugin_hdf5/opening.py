"""Open a trajectory file for reading, or say in one line why it cannot be opened."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import h5py

from simscaleai_plugin_hdf5.faults import Place
from simscaleai_plugin_hdf5.layout import FileStamp

_AN_HDF5_FILE = "an HDF5 file"
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
    _check_before_opening(path)
    forbid_filter_plugins()
    try:
        file = h5py.File(path, "r", rdcc_nbytes=0)
    except OSError as error:
        raise Place(path=path).fault(*_refusal(str(error))) from error
    if expected_stamp is not None and file_stamp(path) != expected_stamp:
        file.close()
        raise Place(path=path).fault(
            "the file as it was when it was first read",
            "a file of another size or time",
            "Do not replace data while it is in use; start again to use the new file",
            fact="the file has changed",
        )
    return file


def file_stamp(path: Path) -> FileStamp:
    """Return what tells the file from one that has taken its place."""
    status = path.stat()
    return FileStamp(size_bytes=status.st_size, modified_ns=status.st_mtime_ns)


def forbid_filter_plugins() -> None:
    """Empty HDF5's plugin search path: a data file must not decide which library is loaded."""
    while h5py.h5pl.size() > 0:
        h5py.h5pl.remove(0)


def _check_before_opening(path: Path) -> None:
    place = Place(path=path)
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise place.fault(_AN_HDF5_FILE, "no such file", "Check the path") from error
    except OSError as error:
        found = error.strerror or str(error)
        raise place.fault(_AN_HDF5_FILE, found, "Check the path and its permissions") from error
    if stat.S_ISDIR(status.st_mode):
        raise place.fault(_AN_HDF5_FILE, "a directory", "Name a file in it")
    if not stat.S_ISREG(status.st_mode):
        raise place.fault(_AN_HDF5_FILE, "something that is not a plain file", "Check the path")
    if status.st_size == 0:
        raise place.fault(_AN_HDF5_FILE, "an empty file", "Record it again")
    if not os.access(path, os.R_OK):
        raise place.fault(_AN_HDF5_FILE, "no permission to read it", "Check its permissions")


def _refusal(reason: str) -> tuple[str, str, str]:
    """Return what was expected, what was found and what to do, by HDF5's own words."""
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
