"""Read a file once: audit it, and pack every low-dimensional number into one float32 matrix.

One matrix, because a batch is then one gather whatever the number of keys::

    matrix [N, W]    row: a timestep, episode after episode; columns: the observation keys in
                     their order, then the actions
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import torch
from attrs import frozen
from torch import Tensor

from simscaleai_plugin_hdf5.checks import Location, finite_rows
from simscaleai_plugin_hdf5.layout import OBSERVATIONS, FileLayout, KeyLayout
from simscaleai_plugin_hdf5.reading.guard import dataset_in, group_in
from simscaleai_plugin_hdf5.reading.images import FrameSource, frame_source
from simscaleai_plugin_hdf5.reading.opening import open_file
from simscaleai_plugin_hdf5.reading.structure import read_layout
from simscaleai_plugin_hdf5.reading.timesteps import Timesteps


@frozen(kw_only=True, eq=False)
class LoadedFile:
    """Everything read from a file; a dataset and its splits share one."""

    layout: FileLayout
    """What the file holds."""
    matrix: Tensor
    """The packed low-dimensional numbers, float32 `[N, W]`."""
    offsets: npt.NDArray[np.int64]
    """First row of each episode, and the number of rows at the end; `[E + 1]`."""
    language: tuple[str, ...] | None
    """The instruction of each episode, or None if it was not asked for."""
    frames: FrameSource
    """Where images come from."""


def load_file(
    path: Path,
    *,
    obs_keys: Sequence[str] | None = None,
    include_language: bool = False,
    cache_images_gib: float = 0.0,
) -> LoadedFile:
    """Audit a file and read what fits in memory.

    Args:
        path: The file.
        obs_keys: Observation keys to read, in the order wanted; all, sorted, if not given.
        include_language: Whether to read the instructions.
        cache_images_gib: Images are read too if all of them fit in this [GiB].

    Returns:
        What was read.

    Raises:
        DataError: If the file is not sound; see `audit` and `open_file`.
    """
    location = Location(path=path)
    layout = read_layout(path, obs_keys=obs_keys, has_texts=include_language)
    with open_file(path, expected_stamp=layout.stamp) as file:
        lengths = [episode.length for episode in layout.episodes]
        offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
        return LoadedFile(
            layout=layout,
            matrix=_packed_matrix(file, layout, offsets, location),
            offsets=offsets,
            language=tuple(e.language or "" for e in layout.episodes) if include_language else None,
            frames=frame_source(file, layout, offsets, cache_images_gib),
        )


def _packed_matrix(
    file: h5py.File, layout: FileLayout, offsets: npt.NDArray[np.int64], location: Location
) -> Tensor:
    width = sum(key.width for key in layout.packed)
    try:
        matrix = np.empty((int(offsets[-1]), width), dtype=np.float32)
    except MemoryError as error:
        found = f"{int(offsets[-1]) * width * 4 / 2**30:.1f} GiB"
        raise location.error("data that fits in memory", found, "Choose fewer obs_keys") from error
    for episode, start, stop in zip(layout.episodes, offsets[:-1], offsets[1:], strict=True):
        here = location.at(episode=episode.name)
        group = group_in(file, episode.name, here)
        observations = group_in(group, OBSERVATIONS, here)
        column = 0
        for key in layout.packed:
            parent = group if key is layout.actions else observations
            columns = slice(column, column + key.width)
            _read_numbers(parent, key, here.at(key=key.name), matrix[start:stop, columns])
            column = columns.stop
    return torch.from_numpy(matrix)


def _read_numbers(
    parent: h5py.Group, key: KeyLayout, location: Location, rows: npt.NDArray[np.float32]
) -> None:
    source = Timesteps(dataset_in(parent, key.name, location), location)
    for start, stop in source.blocks():
        values = source.read(start, stop)
        rows[start:stop] = finite_rows(values, key.width, location, first_step=start)
