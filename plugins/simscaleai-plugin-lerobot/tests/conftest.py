"""What the tests share: LeRobot folders, written with pyarrow and PyAV alone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # lerobot_folders, under --import-mode=importlib

from lerobot_folders import write_v2, write_v3
from simscaleai_plugin_lerobot.dataset import LeRobotDataset

from simscaleai_core.errors import DataError

LENGTHS = (7, 5, 9, 6)


@pytest.fixture(params=["v3", "v2"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Four episodes with two cameras as video, in both versions of the layout."""
    path = tmp_path / "data"
    (write_v3 if request.param == "v3" else write_v2)(path, LENGTHS)
    return path


@pytest.fixture
def v3(tmp_path: Path) -> Path:
    """Four episodes with two cameras as video, two episodes a file."""
    return write_v3(tmp_path / "data", LENGTHS)


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    """Four episodes with two cameras as video, each in files of its own."""
    return write_v2(tmp_path / "data", LENGTHS)


@pytest.fixture
def refusal() -> Callable[..., DataError]:
    """Open a folder, which must fail, and return the error after a look at its form."""

    def read(path: Path, **options: Any) -> DataError:
        with pytest.raises(DataError) as caught:
            LeRobotDataset(path, **options)
        message = str(caught.value)
        assert "\n" not in message and message.endswith(".") and " @ " in message
        assert ": expected " in message and ", got " in message
        return caught.value

    return read
