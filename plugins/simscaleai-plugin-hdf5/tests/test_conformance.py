"""The plugin and its dataset do what every plugin and every dataset must."""

from __future__ import annotations

import io
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
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


@pytest.mark.slow
class TestFolder(DatasetSuite):
    """Files of ALOHA with compressed frames, which vary in size."""

    component = "hdf5/hdf5"
    options = {"seq_len": 2, "include_language": True, "cache_images_gib": 0.0}

    @classmethod
    def write_data(cls, folder: Path) -> Path:
        path = folder / "aloha"
        if path.exists():
            return path
        path.mkdir()
        draw = np.random.default_rng(0)
        for number, length in enumerate((5, 9, 4, 7)):
            with h5py.File(path / f"episode_{number}.hdf5", "w") as file:
                file.attrs["instruction"] = f"task {number}"
                file["action"] = draw.normal(size=(length, 3)).astype("f4")
                file["observations/qpos"] = draw.normal(size=(length, 6)).astype("f4")
                frames = file.create_dataset(
                    "observations/images/top", (length,), h5py.vlen_dtype(np.uint8)
                )
                for step in range(length):
                    buffer = io.BytesIO()
                    pixels = draw.integers(0, 256, (8, 9, 3), np.uint8)
                    Image.fromarray(pixels).save(buffer, format="PNG")
                    frames[step] = np.frombuffer(buffer.getvalue(), np.uint8)
        return path
