"""Read the structure of a file, in a process apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cattrs.preconf.json import make_converter

from simscaleai_plugin_hdf5.checks import Location
from simscaleai_plugin_hdf5.layout import FileLayout
from simscaleai_plugin_hdf5.reading.apart import apart
from simscaleai_plugin_hdf5.reading.audit import audit
from simscaleai_plugin_hdf5.reading.opening import check_before_opening, file_stamp, open_file


def read_layout(
    path: Path, *, obs_keys: Sequence[str] | None = None, has_texts: bool = False
) -> FileLayout:
    """Audit a file's structure without reading its numbers, in a process apart.

    Args:
        path: The file.
        obs_keys: Observation keys to check, in the order wanted; all, sorted, if not given.
        has_texts: Whether to read the attributes of the episodes too.

    Returns:
        What the file holds.

    Raises:
        DataError: If the file is not sound; see `audit` and `open_file`.
    """
    location, converter = Location(path=path), make_converter()

    def work() -> Any:
        with open_file(path) as file:
            layout = audit(file, location, file_stamp(path), obs_keys, has_texts=has_texts)
        return converter.unstructure(layout)

    check_before_opening(path)
    return converter.structure(apart(work, location), FileLayout)
