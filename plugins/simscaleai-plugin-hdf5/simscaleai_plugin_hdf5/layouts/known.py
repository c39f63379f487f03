"""Tell which layout a file is in, from what its root holds."""

from __future__ import annotations

from pathlib import Path

import h5py

from simscaleai_core.data.location import Location, listed
from simscaleai_plugin_hdf5.layouts import aloha, d4rl, minari, own, robomimic
from simscaleai_plugin_hdf5.layouts.layout import Found, Layout
from simscaleai_plugin_hdf5.reading.allowance import Allowance
from simscaleai_plugin_hdf5.reading.guard import names_in
from simscaleai_plugin_hdf5.reading.opening import file_stamp, root_of

LAYOUTS = (robomimic.LAYOUT, aloha.LAYOUT, d4rl.LAYOUT, minari.LAYOUT, own.LAYOUT)
"""The layouts that are read; Minari's is tried before ours, which it extends."""


def found_root(file: h5py.File, path: Path, allowance: Allowance | None = None) -> Found:
    """Return the root of an open file, as layouts are asked about it.

    Args:
        file: The file.
        path: Its path.
        allowance: What may still be read; as much as it stores if not given.

    Returns:
        The root.

    Raises:
        DataError: If it holds more names than such a file may.
    """
    location = Location(path=path)
    allowance = allowance or Allowance(location, file_stamp(path).size_bytes)
    root = root_of(file, location)
    names = frozenset(names_in(root, location, allowance))
    return Found(group=root, names=names, location=location, allowance=allowance)


def layout_of(root: Found) -> Layout | None:
    """Return the layout of a file, or None if it is in none that is read.

    Args:
        root: The root of the file.
    """
    return next((layout for layout in LAYOUTS if layout.matches(root)), None)


def known_layout_of(root: Found) -> Layout:
    """Return the layout of a file.

    Args:
        root: The root of the file.

    Returns:
        The layout.

    Raises:
        DataError: If it is in none that is read.
    """
    found = layout_of(root)
    if found is None:
        raise root.location.error(
            "groups episode_N, or the layout of robomimic, ALOHA, Minari or D4RL",
            listed(root.names),
            "Name the groups episode_0, episode_1, ..., or see the plugin's README",
            fact="no episodes in the file",
        )
    return found
