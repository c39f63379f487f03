"""What is written in a layout is read back equal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from simscaleai_plugin_hdf5.converting import write_episodes, write_robomimic
from simscaleai_plugin_hdf5.source import HDF5Source
from simscaleai_plugin_hdf5.writer import EpisodeWriter

from simscaleai_core.data.source import EpisodeSource
from simscaleai_core.errors import DataError

DATA = Path(__file__).resolve().parent / "data"
SAMPLES = [
    "reach.h5",
    "robomimic/tiny_image.hdf5",
    "aloha/real",
    "minari/tiny",
    "d4rl/halfcheetah_tiny.hdf5",
]
WRITERS = [write_episodes, write_robomimic]
pytestmark = pytest.mark.filterwarnings("ignore:the last 5 of 12 timesteps")


def assert_equal(found: HDF5Source, expected: HDF5Source) -> None:
    assert {k.name: (k.shape, k.kind) for k in found.observations} == {
        k.name: (k.shape, k.kind) for k in expected.observations
    }
    assert (found.env, found.fps) == (expected.env, expected.fps)
    for position, (one, two) in enumerate(zip(found.episodes, expected.episodes, strict=True)):
        assert (one.length, one.instructions, one.success, one.filter_keys) == (
            two.length, two.instructions, two.success, two.filter_keys
        )  # fmt: skip
        for key in (*expected.observations, expected.actions):
            arrays = [s.read(position, key.name, 0, one.length) for s in (found, expected)]
            np.testing.assert_array_equal(*arrays)
        rewards = expected.rewards(position)
        if rewards is not None:
            np.testing.assert_array_equal(found.rewards(position), rewards)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("sample", SAMPLES)
def test_there_and_back(
    tmp_path: Path, sample: str, writer: Callable[[EpisodeSource, Path], None]
) -> None:
    source = HDF5Source(DATA / sample)
    writer(source, tmp_path / "a.h5")
    assert_equal(HDF5Source(tmp_path / "a.h5"), source)


@pytest.fixture
def everything(tmp_path: Path) -> HDF5Source:
    """Two episodes with all that an episode can have."""
    rng = np.random.default_rng(0)
    metadata = {"fps": 50.0}
    with EpisodeWriter(tmp_path / "from.h5", env="reach", metadata=metadata) as writer:
        for number in range(2):
            observations = {
                "robot/qpos": rng.normal(size=(6, 7)),
                "pose": rng.normal(size=(6, 4, 4)),
                "bodies": rng.normal(size=(6, 2, 4, 4)),
                "cam/top": rng.integers(0, 256, (6, 9, 8, 3), dtype=np.uint8),
                "cam/grey": rng.integers(0, 256, (6, 9, 8, 1), dtype=np.uint8),
                "cam/depth": rng.integers(0, 2**16, (6, 9, 8), dtype=np.uint16),
            }
            writer.write(
                observations, rng.normal(size=(6, 4)), rng.normal(size=6),
                language=["push it", "shove it"], success=number == 1,
                filter_keys={"train", "all"} if number else {"all"},
            )  # fmt: skip
    return HDF5Source(tmp_path / "from.h5")


@pytest.mark.parametrize("writer", WRITERS)
def test_all_that_an_episode_can_have(
    tmp_path: Path, everything: HDF5Source, writer: Callable[[EpisodeSource, Path], None]
) -> None:
    assert {k.name: (k.kind, k.dtype) for k in everything.observations}["cam/depth"] == (
        "depth", "uint16"
    )  # fmt: skip
    assert everything.episodes[1].filter_keys == {"train", "all"}
    assert everything.episodes[0].instructions == ("push it", "shove it")
    writer(everything, tmp_path / "to.h5")
    again = HDF5Source(tmp_path / "to.h5")
    assert_equal(again, everything)
    assert again.observations == everything.observations
    some = HDF5Source(tmp_path / "to.h5", keys=["robot/qpos"])
    assert [key.name for key in some.observations] == ["robot/qpos"]


def test_what_robomimic_looks_for(tmp_path: Path, everything: HDF5Source) -> None:
    write_robomimic(everything, tmp_path / "to.hdf5")
    with h5py.File(tmp_path / "to.hdf5") as file:
        assert file["data"].attrs["total"] == 12
        env_args = json.loads(file["data"].attrs["env_args"])
        assert env_args == {"env_name": "reach", "type": 2, "env_kwargs": {"control_freq": 50.0}}
        assert file["data/demo_1"].attrs["num_samples"] == 6
        assert json.loads(file["data/demo_1"].attrs["ep_meta"]) == {"lang": "push it"}
        assert file["data/demo_0/dones"][()].tolist() == [0, 0, 0, 0, 0, 1]
        assert file["mask/train"][()].tolist() == [b"demo_1"]
        shapes = {key: values.shape[1:] for key, values in file["data/demo_1/obs"].items()}
        assert shapes == {
            "robot.qpos": (7,), "pose": (4, 4), "bodies": (2, 4, 4), "cam.top": (9, 8, 3),
            "cam.grey": (9, 8, 1), "cam.depth": (9, 8, 1),
        }  # fmt: skip


def test_names_of_keys_that_are_not_ours_change_nothing(
    tmp_path: Path, everything: HDF5Source
) -> None:
    write_robomimic(everything, tmp_path / "to.hdf5")
    odd = {"robot.qpos": "actions", "pose": "cam/top", "cam.top": 3, "nothing": "no/thing"}
    with h5py.File(tmp_path / "to.hdf5", "a") as file:
        file["data"].attrs["key_names"] = json.dumps(odd)
    found = [key.name for key in HDF5Source(tmp_path / "to.hdf5").observations]
    assert found == ["bodies", "cam.depth", "cam.grey", "cam.top", "pose", "robot.qpos"]


def test_a_name_of_two_keys_is_refused(tmp_path: Path, everything: HDF5Source) -> None:
    write_robomimic(everything, tmp_path / "to.hdf5")
    with h5py.File(tmp_path / "to.hdf5", "a") as file:
        file["data/demo_0/obs/robot/qpos"] = np.ones((6, 7))
    with pytest.raises(DataError, match=r"'robot/qpos' of demo_0: expected one array .* got two"):
        HDF5Source(tmp_path / "to.hdf5").observations  # noqa: B018 - this looks at the file


def test_keys_that_robomimic_cannot_tell_apart(tmp_path: Path) -> None:
    with EpisodeWriter(tmp_path / "from.h5") as writer:
        writer.write({"a/b": np.ones((3, 1)), "a.b": np.ones((3, 1))}, np.ones((3, 1)), np.ones(3))
    with pytest.raises(DataError, match=r"expected a name for each key, got 'a\.b' for 'a"):
        write_robomimic(HDF5Source(tmp_path / "from.h5"), tmp_path / "to.h5")
    assert not (tmp_path / "to.h5").exists()


@pytest.mark.parametrize("writer", WRITERS)
def test_all_or_nothing(
    tmp_path: Path, everything: HDF5Source, writer: Callable[[EpisodeSource, Path], None]
) -> None:
    path = tmp_path / "to.h5"
    path.write_text("before")
    with h5py.File(everything.path, "a") as file:
        file["episode_1/observations/pose"][3, 1, 1] = np.nan
    with pytest.raises(
        DataError, match=r"'pose' of .*_1: expected finite float32 numbers, got nan"
    ):
        writer(HDF5Source(everything.path), path)
    assert path.read_text() == "before"
    assert {entry.name for entry in tmp_path.iterdir()} == {"from.h5", "to.h5"}


def test_a_file_of_another_layout_is_not_appended(tmp_path: Path) -> None:
    message = "expected a file of EpisodeWriter's layout, got 'robomimic'"
    with EpisodeWriter(tmp_path / "a.h5") as writer:
        writer.write({"q": np.ones((3, 2))}, np.ones((3, 1)), np.ones(3))
        with pytest.raises(DataError, match=message):
            writer.append(DATA / "robomimic/tiny_image.hdf5")


def test_filter_keys_are_appended(tmp_path: Path, everything: HDF5Source) -> None:
    with EpisodeWriter(tmp_path / "to.h5") as writer:
        writer.append(everything.path, ["episode_1"])
    with h5py.File(tmp_path / "to.h5") as file:
        assert {key: list(names) for key, names in file["mask"].items()} == {
            "all": [b"episode_0"], "train": [b"episode_0"]
        }  # fmt: skip
        assert list(file["episode_0/observations/cam"]) == ["depth", "grey", "top"]
    assert HDF5Source(tmp_path / "to.h5").episodes[0].instructions == ("push it", "shove it")
