"""What the tests share: LeRobot folders, written with pyarrow and PyAV alone."""

from __future__ import annotations

import shutil
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


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four episodes with two cameras as video, as ``v3``, two episodes a file, and as ``v2``."""
    path = tmp_path_factory.mktemp("templates")
    write_v3(path / "v3", LENGTHS)
    write_v2(path / "v2", LENGTHS)
    return path


@pytest.fixture(params=["v3", "v2"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, templates: Path) -> Path:
    """A copy in both versions of the layout."""
    return Path(shutil.copytree(templates / request.param, tmp_path / "data"))


@pytest.fixture
def v3(tmp_path: Path, templates: Path) -> Path:
    """A copy with two episodes a file."""
    return Path(shutil.copytree(templates / "v3", tmp_path / "data"))


@pytest.fixture
def v2(tmp_path: Path, templates: Path) -> Path:
    """A copy with files of its own for each episode."""
    return Path(shutil.copytree(templates / "v2", tmp_path / "data"))


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
