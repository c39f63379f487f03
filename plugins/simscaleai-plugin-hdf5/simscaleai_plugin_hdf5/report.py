"""Summary of a file, and a check that all of it can be read."""

from __future__ import annotations

import math
from pathlib import Path

import h5py
import numpy as np
from attrs import frozen

from simscaleai_plugin_hdf5.checks import Location, finite_rows
from simscaleai_plugin_hdf5.layout import OBSERVATIONS, REWARDS, FileLayout
from simscaleai_plugin_hdf5.reading.guard import dataset_in, group_in, has_member
from simscaleai_plugin_hdf5.reading.loading import load_file
from simscaleai_plugin_hdf5.reading.opening import open_file
from simscaleai_plugin_hdf5.reading.structure import read_layout
from simscaleai_plugin_hdf5.reading.timesteps import Timesteps


@frozen(kw_only=True)
class Report:
    """Contents of a file, from its structure and attributes."""

    layout: FileLayout
    """Episodes and keys."""
    languages: tuple[str, ...]
    """Different instructions, in the order of their first episode."""
    num_success: int | None
    """Episodes marked as successful; None if no episode is marked at all."""


def report(path: Path) -> Report:
    """Summarise a file, without reading its numbers.

    Args:
        path: The file.

    Returns:
        The report.

    Raises:
        DataError: If the file is not sound.
    """
    layout = read_layout(path, has_texts=True)
    languages = dict.fromkeys(e.language for e in layout.episodes if e.language)
    outcomes = [e.success for e in layout.episodes if e.success is not None]
    num_success = sum(outcomes) if outcomes else None
    return Report(layout=layout, languages=tuple(languages), num_success=num_success)


def check(path: Path) -> int:
    """Read every number and every image of a file once.

    Args:
        path: The file.

    Returns:
        Number of episodes.

    Raises:
        DataError: If anything is not sound.
    """
    layout = load_file(path, include_language=True).layout
    with open_file(path, expected_stamp=layout.stamp) as file:
        for episode in layout.episodes:
            here = Location(path=path, episode=episode.name)
            group = group_in(file, episode.name, here)
            observations = group_in(group, OBSERVATIONS, here.at(key=OBSERVATIONS))
            for key in layout.images:
                _read_all(observations, key.name, here)
            if has_member(group, REWARDS, here):
                _read_all(group, REWARDS, here)
    return len(layout.episodes)


def _read_all(group: h5py.Group, name: str, location: Location) -> None:
    here = location.at(key=name)
    dataset = dataset_in(group, name, here)
    source, width = Timesteps(dataset, here), math.prod(dataset.shape[1:])
    for start, stop in source.blocks():
        values = source.read(start, stop)
        if dataset.dtype != np.uint8:  # whole numbers of one byte are finite
            finite_rows(values, width, here, first_step=start)
