"""Tell from a quick look whether a path is in one of the layouts that are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_SUFFIXES = (".h5", ".hdf5")


def reads(path: Path) -> bool:
    """Return whether a file or folder is in a layout that this plugin reads.

    Args:
        path: The file or folder.

    Returns:
        Whether it is; also if it is an HDF5 file by its name that is too damaged to tell, so that
        whoever reads it says what is wrong.
    """
    try:
        files = _files(path)
        return bool(files) and all(map(_is_hdf5, files)) and _have_one_layout(files)
    except OSError:
        return False


def _files(path: Path) -> Sequence[Path]:
    if not path.is_dir():
        return [path] if path.is_file() else []
    names = {entry.suffix for entry in path.iterdir()}
    if not names.intersection(_SUFFIXES) and not (path / "data" / "main_data.hdf5").is_file():
        return []
    from simscaleai_plugin_hdf5.layouts.files import files_in

    return files_in(path)


def _is_hdf5(path: Path) -> bool:
    with path.open("rb") as file:
        if file.read(len(_SIGNATURE)) == _SIGNATURE:
            return True
        size, offset = path.stat().st_size, 512  # behind a user block
        while offset < size:
            file.seek(offset)
            if file.read(len(_SIGNATURE)) == _SIGNATURE:
                return True
            offset *= 2
    return False


def _have_one_layout(files: Sequence[Path]) -> bool:
    from simscaleai_core.errors import DataError
    from simscaleai_plugin_hdf5.layouts.structure import layout_names

    try:
        return len(names := set(layout_names(files))) == 1 and None not in names
    except DataError:
        return all(file.suffix in _SUFFIXES for file in files)
