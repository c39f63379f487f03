"""What is written in a layout is read back equal, by us and by the libraries of that layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    assert found.observations == expected.observations or {
        k.name: k.shape for k in found.observations
    } == {k.name: k.shape for k in expected.observations}
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


# The libraries themselves.


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_robomimic_opens_what_we_write(tmp_path: Path, everything: HDF5Source) -> None:
    pytest.importorskip("robomimic.utils.dataset", exc_type=ImportError)
    from robomimic.utils import file_utils, obs_utils
    from robomimic.utils.dataset import SequenceDataset

    path = tmp_path / "to.hdf5"
    write_robomimic(HDF5Source(DATA / "robomimic/tiny_image.hdf5"), path)
    obs_utils.initialize_obs_utils_with_obs_specs(
        {"obs": {"low_dim": ["robot0_eef_pos"], "rgb": ["agentview_image"]}}
    )
    assert file_utils.get_env_metadata_from_dataset(str(path))["env_name"] == "Lift"
    theirs = SequenceDataset(
        hdf5_path=str(path), obs_keys=("robot0_eef_pos", "agentview_image"),
        dataset_keys=("actions", "rewards", "dones"), filter_by_attribute="train",
        load_next_obs=False, hdf5_use_swmr=False,
    )  # fmt: skip
    source = HDF5Source(path)
    assert theirs.demos == ["demo_0", "demo_2", "demo_3"]
    for index, step in ((0, 0), (4, 4), (5, 0)):
        item, episode = theirs[index], 0 if index < 5 else 2
        for key in ("robot0_eef_pos", "agentview_image"):
            np.testing.assert_array_equal(
                item["obs"][key], source.read(episode, key, step, step + 1)
            )
        found = source.read(episode, "actions", step, step + 1)
        np.testing.assert_array_equal(item["actions"], found)


def minari_episodes(minari: Any, folder: Path, *, jpeg: bool) -> Any:
    """Record two episodes with Minari's own collector."""
    gymnasium = pytest.importorskip("gymnasium")

    class Env(gymnasium.Env):  # type: ignore[misc]
        def __init__(self) -> None:
            spaces = gymnasium.spaces
            self.action_space = spaces.Box(-1, 1, (2,), np.float32)
            self.observation_space = spaces.Dict(
                {
                    "robot": spaces.Dict({"qpos": spaces.Box(-9, 9, (3,), np.float64)}),
                    "image": spaces.Box(0, 255, (32, 40, 3), np.uint8),
                    "mission": spaces.Text(20),
                }
            )

        def _seen(self) -> dict[str, Any]:
            image = self.np_random.integers(0, 256, (32, 40, 3), dtype=np.uint8)
            qpos = self.np_random.normal(size=3)
            return {"robot": {"qpos": qpos}, "image": image, "mission": "push"}

        def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
            super().reset(seed=seed)
            self.steps = 0
            return self._seen(), {"success": False}

        def step(self, action: Any) -> tuple[Any, float, bool, bool, Any]:
            self.steps += 1
            done = self.steps == 5
            return self._seen(), 1.0, done, False, {"success": done}

    collector = minari.DataCollector(
        Env(), record_infos=True, data_format="hdf5", jpeg_encoding=jpeg
    )
    for seed in range(2):
        collector.reset(seed=seed)
        for _ in range(5):
            collector.step(collector.action_space.sample())
    dataset = collector.create_dataset("ours/test-v0")
    collector.close()
    return dataset


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("jpeg", [False, True])
def test_what_minari_writes_is_read_as_minari_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jpeg: bool
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    minari = pytest.importorskip("minari")
    pytest.importorskip("jax")  # with which Minari collects
    theirs = minari_episodes(minari, tmp_path, jpeg=jpeg)
    source = HDF5Source(tmp_path / "ours/test-v0")
    assert [key.name for key in source.observations] == ["image", "robot/qpos"]
    for position, episode in enumerate(theirs.iterate_episodes()):
        assert source.episodes[position].instructions == ("push",)
        assert source.episodes[position].success is True
        pairs = {
            "image": episode.observations["image"],
            "robot/qpos": episode.observations["robot"]["qpos"],
            "actions": episode.actions,
        }
        for key, expected in pairs.items():
            np.testing.assert_array_equal(source.read(position, key, 0, 5), expected[:5])
        np.testing.assert_array_equal(source.rewards(position), episode.rewards)
