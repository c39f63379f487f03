"""The plugin and its dataset do what every plugin and every dataset must."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from simscaleai_devkit import DatasetSuite, PluginSuite, SourceSuite


class TestPlugin(PluginSuite):
    component = "zarr"


def write_folder(folder: Path) -> Path:
    path = folder / "buffer.zarr"
    if path.exists():
        return path
    draw, lengths = np.random.default_rng(0), (5, 9, 4, 7)
    root = zarr.open_group(path, mode="w", zarr_format=2)
    rows = sum(lengths)
    for name, values in {
        "action": draw.normal(size=(rows, 3)).astype("f4"),
        "state": draw.normal(size=(rows, 6)).astype("f4"),
        "img": draw.integers(0, 256, (rows, 8, 9, 3), np.uint8),
        "depth": draw.integers(0, 9999, (rows, 8, 9), np.uint16),
        "pose": draw.normal(size=(rows, 3, 4)).astype(">f8"),
        "timestamp": np.arange(rows) / 10,
    }.items():
        root.create_array(f"data/{name}", data=values, chunks=(4, *values.shape[1:]))
    root.create_array("meta/episode_ends", data=np.cumsum(lengths))
    return path


def write_archive(folder: Path) -> Path:
    path = folder / "buffer.zarr.zip"
    if not path.exists():
        shutil.make_archive(str(path.with_suffix("")), "zip", write_folder(folder))
    return path


@pytest.mark.slow
class TestFolder(SourceSuite):
    component = "zarr/zarr"
    write_data = staticmethod(write_folder)


class TestArchive(SourceSuite):
    component = "zarr/zarr"
    write_data = staticmethod(write_archive)


@pytest.mark.slow
class TestTimesteps(DatasetSuite):
    component = "zarr/zarr"
    write_data = staticmethod(write_folder)


@pytest.mark.slow
class TestWindowsOfAnArchive(DatasetSuite):
    """Images are read from the zip file, also in workers that are forked while it is open."""

    component = "zarr/zarr"
    options = {"seq_len": 3, "cache_images_gib": 0.0}
    write_data = staticmethod(write_archive)
