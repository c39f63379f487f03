"""The plugin and its dataset do what every plugin and every dataset must."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from simscaleai_devkit import DatasetSuite, PluginSuite


class TestPlugin(PluginSuite):
    component = "hdf5"


class TestTimesteps(DatasetSuite):
    component = "hdf5/hdf5"

    @classmethod
    def write_data(cls, folder: Path) -> Path:
        path = folder / "episodes.h5"
        if path.exists():
            return path
        draw = np.random.default_rng(0)
        with h5py.File(path, "w") as file:
            for number, length in enumerate((5, 9, 4, 7)):
                episode = file.create_group(f"episode_{number}")
                episode.attrs["language"] = f"task {number}"
                episode["actions"] = draw.normal(size=(length, 3)).astype("f4")
                episode["observations/joint_pos"] = draw.normal(size=(length, 6)).astype("f4")
                episode["observations/image"] = draw.integers(0, 256, (length, 8, 9, 3), np.uint8)
        return path


class TestWindows(TestTimesteps):
    options = {"seq_len": 3, "include_language": True}


class TestImagesFromTheFile(TestTimesteps):
    options = {"cache_images_gib": 0.0}
