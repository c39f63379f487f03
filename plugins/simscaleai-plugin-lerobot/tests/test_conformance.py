"""The plugin, its reader and its dataset do what every one of their kind must."""

from __future__ import annotations

from pathlib import Path

from lerobot_folders import MPEG4, write_v2, write_v3
from simscaleai_devkit import DatasetSuite, PluginSuite
from simscaleai_devkit.datasets.sources import SourceSuite

SAMPLE = Path(__file__).parent / "data" / "tiny_image"
LENGTHS = (5, 9, 4, 7)


class TestPlugin(PluginSuite):
    component = "lerobot"


class TestTimesteps(DatasetSuite):
    """Images in parquet."""

    component = "lerobot/lerobot"
    path = SAMPLE

    @classmethod
    def write_data(cls, folder: Path) -> Path:
        return SAMPLE


class TestWindowsOfVideos(DatasetSuite):
    """Several episodes a video, decoded for every batch, also in workers."""

    component = "lerobot/lerobot"
    options = {"seq_len": 3, "include_language": True, "cache_images_gib": 0.0}

    @classmethod
    def write_data(cls, folder: Path) -> Path:
        path = folder / "data"
        return path if path.exists() else write_v3(path, LENGTHS, codec=MPEG4)


class TestReaderOfImages(SourceSuite):
    component = "lerobot/lerobot"
    path = SAMPLE


class TestReaderOfV3(SourceSuite):
    component = "lerobot/lerobot"

    @classmethod
    def write_data(cls, folder: Path) -> Path:
        return write_v3(folder / "data", LENGTHS)


class TestReaderOfV2(SourceSuite):
    component = "lerobot/lerobot"

    @classmethod
    def write_data(cls, folder: Path) -> Path:
        return write_v2(folder / "data", LENGTHS)
