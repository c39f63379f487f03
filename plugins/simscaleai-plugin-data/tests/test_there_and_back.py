"""Our layout, robomimic's and LeRobot's: what goes there and back is the same, by the commands."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import h5py
import numpy as np
import pytest
from simscaleai_plugin_data.commands import app
from simscaleai_plugin_hdf5.writer import EpisodeWriter

from simscaleai_core.cli.datasets import open_sources
from simscaleai_core.data.source import EpisodeSource
from simscaleai_core.host.facade import Host

SAMPLE = Path(__file__).parents[2] / "simscaleai-plugin-hdf5" / "tests" / "data" / "reach.h5"


@pytest.fixture
def convert(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Return what the command says that the layout does not hold."""

    def run(data: Path, to: str, output: Path) -> list[str]:
        words = ["convert", str(data), "--to", to, "--output", str(output), "--json"]
        app(words, result_action="return_value")
        found: list[str] = json.loads(capsys.readouterr().out)["not_held"]
        return found

    return run


def write_ours(path: Path, successes: Sequence[bool | None], parts: Sequence[list[str]]) -> Path:
    """Write all that our layout holds; numbers are float32, as LeRobot's are."""
    rng = np.random.default_rng(0)
    with EpisodeWriter(path, env="reach", metadata={"fps": 20.0}) as writer:
        for number, length in enumerate((5, 9, 7)):
            writer.write(
                {
                    "arm/joint_pos": rng.normal(size=(length, 7)).astype(np.float32),
                    "pose": rng.normal(size=(length, 4, 4)).astype(np.float32),
                    "front": rng.integers(0, 256, (length, 24, 32, 3), dtype=np.uint8),
                    "wrist": rng.integers(0, 256, (length, 16, 16, 3), dtype=np.uint8),
                },
                rng.normal(size=(length, 4)).astype(np.float32),
                rng.normal(size=length).astype(np.float32),
                language=["pick it up", ["take the cube", "grasp it"], None][number],
                success=successes[number],
                filter_keys=parts[number],
            )
    return path


def opened(path: Path) -> EpisodeSource:
    (source,) = open_sources(Host(), [str(path)])
    return source


def differences(one: EpisodeSource, two: EpisodeSource, *, single: bool = False) -> list[str]:
    """Return what differs; numbers are compared as float32 if they went through LeRobot."""
    found = []
    for fact in ("fps", "env"):
        if getattr(one, fact) != getattr(two, fact):
            found.append(fact)
    if [_shape(k) for k in one.observations] != [_shape(k) for k in two.observations]:
        return [*found, "keys"]
    for number, (first, second) in enumerate(zip(one.episodes, two.episodes, strict=True)):
        if attrs.evolve(first, name="") != attrs.evolve(second, name=""):
            found.append(f"about episode {number}: {first} {second}")
        for key in (*one.observations, one.actions):
            a, b = (s.read(number, key.name, 0, first.length) for s in (one, two))
            if not np.array_equal(a.astype(np.float32) if single else a, b):
                found.append(f"{key.name} of episode {number}")
        rewards = [np.asarray(s.rewards(number)) for s in (one, two)]  # type: ignore[attr-defined]
        if not np.array_equal(rewards[0].astype(np.float32) if single else rewards[0], rewards[1]):
            found.append(f"rewards of episode {number}")
    return found


def _shape(key: Any) -> tuple[Any, ...]:
    return key.name, key.shape, key.kind


@pytest.mark.slow
@pytest.mark.parametrize("is_sample", [False, True])
def test_robomimic(convert: Callable[..., list[str]], tmp_path: Path, is_sample: bool) -> None:
    parts = [["train"], ["train", "easy"], ["valid"]]
    ours = write_ours(tmp_path / "ours.h5", [True, False, None], parts)
    start, renamed = (SAMPLE, 4) if is_sample else (ours, 3)
    assert convert(start, "robomimic", tmp_path / "robomimic.hdf5") == [
        f"names of {renamed} episodes"
    ]
    with h5py.File(tmp_path / "robomimic.hdf5") as file:
        assert "actions" in file["data/demo_0"] and "env_args" in file["data"].attrs
    convert(tmp_path / "robomimic.hdf5", "hdf5", tmp_path / "back.h5")
    assert differences(opened(start), opened(tmp_path / "back.h5")) == []


@pytest.mark.slow
def test_lerobot(convert: Callable[..., list[str]], tmp_path: Path) -> None:
    parts = [["train"], ["train"], ["valid"]]
    ours = write_ours(tmp_path / "ours.h5", [True, False, True], parts)
    single = "the number type of 'actions' (float64 became float32)"
    assert convert(ours, "lerobot", tmp_path / "folder") == [single]
    info = json.loads((tmp_path / "folder" / "meta" / "info.json").read_text())
    assert info["codebase_version"] == "v3.0" and info["total_episodes"] == 3
    assert convert(tmp_path / "folder", "hdf5", tmp_path / "back.h5") == []
    assert differences(opened(ours), opened(tmp_path / "back.h5"), single=True) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the data does not say how many timesteps")
def test_lerobot_says_what_it_does_not_hold(
    convert: Callable[..., list[str]], tmp_path: Path
) -> None:
    parts = [["train"], ["valid"], ["train"]]
    ours = write_ours(tmp_path / "ours.h5", [True, False, None], parts)
    assert convert(ours, "lerobot", tmp_path / "folder")[1:] == ["success of 2 episodes"]
    said = convert(SAMPLE, "lerobot", tmp_path / "sample")
    assert said[0].startswith("the number type of 'actions', ")
    assert said[0].endswith("'joint_pos' (float64 became float32)")
    convert(tmp_path / "sample", "hdf5", tmp_path / "back.h5")
    assert differences(opened(SAMPLE), opened(tmp_path / "back.h5"), single=True) == ["fps"]


def test_a_file_is_packed_anew(convert: Callable[..., list[str]], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (12, 64, 64, 3), dtype=np.uint8)
    with h5py.File(tmp_path / "slow.h5", "w") as file:
        group = file.create_group("episode_0")
        group["actions"], group["rewards"] = rng.normal(size=(12, 2)), np.zeros(12)
        group.create_dataset("observations/image", data=frames, compression="gzip")
        assert group["observations/image"].chunks[0] > 1  # one frame costs many to unpack
    assert convert(tmp_path / "slow.h5", "hdf5", tmp_path / "quick.h5") == []
    with h5py.File(tmp_path / "quick.h5") as file:
        assert file["episode_0/observations/image"].chunks == (1, 64, 64, 3)
    assert differences(opened(tmp_path / "slow.h5"), opened(tmp_path / "quick.h5")) == []
