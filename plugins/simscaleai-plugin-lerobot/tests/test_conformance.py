"""The plugin, its reader and its dataset do what every one of their kind must."""

from __future__ import annotations

from pathlib import Path

import pytest
from simscaleai_devkit import DatasetSuite, PluginSuite
from simscaleai_devkit.datasets.sources import SourceSuite

SAMPLE = Path(__file__).parent / "data" / "tiny_image"


class TestPlugin(PluginSuite):
    component = "lerobot"


class TestTimesteps(DatasetSuite):
    """Images in parquet."""

    component = "lerobot/lerobot"
    path = SAMPLE


class TestWindowsOfVideos(DatasetSuite):
    """Several episodes a video, decoded for every batch, also in workers."""

    component = "lerobot/lerobot"
    options = {"seq_len": 3, "include_language": True, "cache_images_gib": 0.0}


class TestReaderOfImages(SourceSuite):
    component = "lerobot/lerobot"
    path = SAMPLE
    pytestmark = pytest.mark.slow


class TestReaderOfV3(SourceSuite):
    component = "lerobot/lerobot"


class TestReaderOfV2(SourceSuite):
    component = "lerobot/lerobot"
    pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _data(templates: Path) -> None:
    """Give the suites their folders, written once."""
    TestWindowsOfVideos.path = TestReaderOfV3.path = templates / "v3"
    TestReaderOfV2.path = templates / "v2"
