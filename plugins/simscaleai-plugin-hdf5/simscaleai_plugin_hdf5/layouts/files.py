"""Find the files of a data set."""

from __future__ import annotations

from pathlib import Path

from simscaleai_core.data.location import Location
from simscaleai_core.data.source import natural_order
from simscaleai_plugin_hdf5.layouts.minari import MAIN_FILE

SUFFIXES = (".h5", ".hdf5")


def data_files(path: Path) -> tuple[Path, ...]:
    """Return the files that hold the data of a path.

    Args:
        path: A file; a Minari data set's folder; or a folder of HDF5 files.

    Returns:
        The files, in natural order of their names; `path` itself if it is no folder.

    Raises:
        DataError: If a folder holds none.
    """
    found = files_in(path) if path.is_dir() else (path,)
    if not found:
        raise Location(path=path).error(
            "a folder of HDF5 files, or of a Minari data set", "one without any", "Check the path"
        )
    return found


def files_in(folder: Path) -> tuple[Path, ...]:
    """Return the files that hold the data of a folder; see `data_files`."""
    for main_file in (folder.joinpath(*MAIN_FILE), folder / MAIN_FILE[-1]):
        if main_file.is_file():
            return (main_file,)
    found = [
        file
        for file in folder.iterdir()
        if file.suffix in SUFFIXES and not file.name.startswith(".") and file.is_file()
    ]
    return tuple(sorted(found, key=lambda file: natural_order(file.name)))
