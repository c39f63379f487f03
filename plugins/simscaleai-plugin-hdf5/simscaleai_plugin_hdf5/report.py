"""Summary of a file, and a check that all of it can be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from attrs import frozen

from simscaleai_plugin_hdf5.checks import Location, finite_rows, read_errors_at, text_attribute
from simscaleai_plugin_hdf5.dataset import TrajectoryDataset
from simscaleai_plugin_hdf5.layout import REWARDS, FileLayout
from simscaleai_plugin_hdf5.reading.guard import dataset_in, group_in
from simscaleai_plugin_hdf5.reading.loading import read_layout
from simscaleai_plugin_hdf5.reading.opening import open_file

_BLOCK_FRAMES = 32


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
    layout = read_layout(path)
    languages: dict[str, None] = {}
    outcomes: list[bool] = []
    with open_file(path, expected_stamp=layout.stamp) as file:
        for episode in layout.episodes:
            location = Location(path=path, episode=episode.name)
            group = group_in(file, episode.name, location)
            text = text_attribute(group, "language", location)
            if text:
                languages[text] = None
            with read_errors_at(location.at(key="@success")):
                if "success" in group.attrs:
                    outcomes.append(bool(np.all(group.attrs["success"])))
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
    dataset = TrajectoryDataset(path, include_language=True, cache_images_gib=0)
    if not dataset.in_memory:
        for start in range(0, len(dataset), _BLOCK_FRAMES):
            dataset.__getitems__(range(start, min(start + _BLOCK_FRAMES, len(dataset))))
    _check_rewards(path, dataset.episodes)
    return len(dataset.episodes)


def _check_rewards(path: Path, episodes: tuple[str, ...]) -> None:
    with open_file(path) as file:
        for name in episodes:
            location = Location(path=path, episode=name, key=REWARDS)
            group = group_in(file, name, location)
            if REWARDS in group:
                dataset = dataset_in(group, REWARDS, location)
                with read_errors_at(location):
                    values = dataset[()]
                finite_rows(values, values[0].size, location)
