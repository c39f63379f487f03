"""Read the structure of a file or folder, in a process apart."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import frozen
from cattrs.preconf.json import make_converter

from simscaleai_core.data.location import Location
from simscaleai_core.data.progress import told
from simscaleai_plugin_hdf5.layouts.known import found_root, layout_of
from simscaleai_plugin_hdf5.layouts.looking import Wanted
from simscaleai_plugin_hdf5.layouts.survey import Survey
from simscaleai_plugin_hdf5.reading.ahead import Ahead
from simscaleai_plugin_hdf5.reading.apart import apart, still_alive
from simscaleai_plugin_hdf5.reading.opening import check_before_opening, file_stamp, open_file
from simscaleai_plugin_hdf5.stored import FileLayout, StoredFile


@frozen(kw_only=True, eq=False)
class Structure:
    """What was found, and what was read on the way."""

    layout: FileLayout
    """What the files hold."""
    ahead: mmap.mmap | None = None
    """Numbers of small arrays, one array after the other."""
    places: dict[str, list[int]]
    """Where in them those of each key are, by episode [bytes]; -1 if they were not read."""


def read_structure(
    path: Path, files: Sequence[Path], wanted: Wanted, *, read_ahead: bool = False
) -> Structure:
    """Look at files without reading more than their small arrays, in a process apart.

    Args:
        path: The file or folder.
        files: The files.
        wanted: What to look at.
        read_ahead: Whether to read the numbers of small arrays on the way.

    Returns:
        What they hold.

    Raises:
        DataError: If a file is not sound; see `Survey` and `open_file`.
    """
    ahead = Ahead.make() if read_ahead else None
    converter = make_converter()

    def work() -> Any:
        stored = [StoredFile(path=file, stamp=file_stamp(file)) for file in files]
        survey = Survey(path, stored, wanted, ahead)
        for number, file in enumerate(told(files, "files", len(files))):
            with open_file(file, expected_stamp=stored[number].stamp) as opened:
                survey.add(number, opened)
        layout = survey.layout()
        if ahead is not None:
            ahead.flush()
        return converter.unstructure(layout), survey.places_ahead()

    for file in files:
        check_before_opening(file)
    try:
        found, places = apart(work, Location(path=path))
        contents = None if ahead is None else ahead.contents()
    finally:
        if ahead is not None:
            ahead.close()
    layout = converter.structure(found, FileLayout)
    return Structure(layout=layout, ahead=contents, places=places)


def read_layout(path: Path) -> FileLayout:
    """Return what one file holds.

    Args:
        path: The file.

    Returns:
        What it holds, the texts included.

    Raises:
        DataError: If the file is not sound.
    """
    return read_structure(path, [path], Wanted()).layout


def layout_names(files: Sequence[Path]) -> list[str | None]:
    """Return the name of the layout of each file, None if it is in none, in a process apart.

    Args:
        files: The files.

    Returns:
        The names.

    Raises:
        DataError: If a file cannot be looked at.
    """

    def work() -> list[str | None]:
        names = []
        for path in files:
            still_alive()
            with open_file(path) as file:
                layout = layout_of(found_root(file, path))
                names.append(layout.name if layout else None)
        return names

    for path in files:
        check_before_opening(path)
    found: list[str | None] = apart(work, Location(path=files[0]))
    return found
