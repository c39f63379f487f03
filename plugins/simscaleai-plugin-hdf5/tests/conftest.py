"""Files for the tests, made with plain h5py so that reader and writer are tested apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from simscaleai_plugin_hdf5.dataset import TrajectoryDataset
from simscaleai_plugin_hdf5.reading import apart

from simscaleai_core.errors import DataError

Episode = dict[str, Any]


@pytest.fixture(autouse=True)
def _where_files_are_looked_at(request: pytest.FixtureRequest, monkeypatch: Any) -> None:
    """Look at sound files in this process, as where fork is not safe; it saves 30 ms each."""
    if not request.path.name.startswith(("test_broken", "test_hostile")):
        monkeypatch.setattr(apart, "_MAY_FORK", False)


@pytest.fixture
def make_episode() -> Callable[..., Episode]:
    def make(length: int, seed: int = 0, *, image: bool = False, **extra: Any) -> Episode:
        rng = np.random.default_rng([seed, length])
        observations = {
            "joint_pos": rng.normal(size=(length, 7)),
            "ee_pos": rng.normal(size=(length, 3)).astype(np.float32),
        }
        if image:
            observations["image"] = rng.integers(0, 256, (length, 6, 5, 3), dtype=np.uint8)
        made = {"observations": observations, "actions": rng.normal(size=(length, 4))}
        return {**made, "rewards": np.zeros(length), **extra}

    return make


@pytest.fixture
def write_file(tmp_path: Path) -> Callable[..., Path]:
    def write(
        episodes: Mapping[str, Episode], name: str = "data.h5", **dataset_options: Any
    ) -> Path:
        path = tmp_path / name
        with h5py.File(path, "w") as file:
            for episode, content in episodes.items():
                group = file.create_group(episode)
                for key, value in content["observations"].items():
                    group.create_dataset(f"observations/{key}", data=value, **dataset_options)
                for key in ("actions", "rewards"):
                    if key in content:
                        group.create_dataset(key, data=content[key])
                if "language" in content:
                    group.attrs["language"] = content["language"]
        return path

    return write


@pytest.fixture
def episodes(make_episode: Callable[..., Episode]) -> dict[str, Episode]:
    """Five episodes with images, gaps in the numbering and two instructions."""
    lengths = {"episode_0": 5, "episode_1": 3, "episode_2": 9, "episode_7": 4, "episode_10": 6}
    made = {
        name: make_episode(length, seed, image=True)
        for seed, (name, length) in enumerate(lengths.items())
    }
    made["episode_1"]["language"] = "push the cube"
    made["episode_10"]["language"] = np.bytes_("reach the caf\u00e9".encode())
    return made


@pytest.fixture
def sound_file(tmp_path: Path) -> Path:
    """Four equal episodes with which nothing is wrong."""
    path = tmp_path / "file.h5"
    with h5py.File(path, "w") as file:
        for number in range(4):
            group = file.create_group(f"episode_{number}")
            group["observations/joint_pos"] = np.ones((6, 7))
            group["observations/ee_pos"] = np.ones((6, 3))
            group["observations/image"] = np.zeros((6, 8, 9, 3), dtype=np.uint8)
            group["actions"] = np.ones((6, 4))
            group["rewards"] = np.ones(6)
    return path


@pytest.fixture
def refusal(sound_file: Path) -> Callable[[], DataError]:
    """Read the file, which must fail, and return the error after a look at its form."""

    def read() -> DataError:
        with pytest.raises(DataError) as caught:
            TrajectoryDataset(sound_file, include_language=True)
        message = str(caught.value)
        assert "\n" not in message and message.endswith(".") and f"@ {sound_file}. " in message
        assert caught.value.path == sound_file
        return caught.value

    return read
