"""What we write is opened by lerobot, and what lerobot writes is read as lerobot reads it.

lerobot has an environment of its own, in which ours lies below: torch is not installed once more.
It is made once, as ``.venv-lerobot`` in the root of the repository.
"""

from __future__ import annotations

import json
import subprocess
import sysconfig
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lerobot_folders import number_in
from simscaleai_plugin_lerobot.dataset import LeRobotDataset
from simscaleai_plugin_lerobot.source import LeRobotSource
from simscaleai_plugin_lerobot.writer import write

pytestmark = pytest.mark.slow

HERE = Path(__file__).resolve().parent
HOME = HERE.parents[2] / ".venv-lerobot"
PACKAGES = (
    "lerobot==0.4.4", "datasets==5.2.0", "dill==0.4.1", "multiprocess==0.70.19",
    "numpy==2.3.5", "pandas==3.1.1", "torchvision==0.28.0",
)  # fmt: skip
SHIM = """
import torch
# the wheel of torchvision is for CUDA; lerobot needs nothing of what it fails at
library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
import json, sys
import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset
"""
READ = """
data = LeRobotDataset("test/test", root=sys.argv[1], delta_timestamps={"action": [0.0, 0.05]})
found = []
for index in range(len(data)):
    item = data[index]
    item = {k: v.tolist() if hasattr(v, "tolist") else v for k, v in item.items()}
    found.append(item)
json.dump({"items": found, "fps": data.fps, "episodes": data.num_episodes}, open(sys.argv[2], "w"))
"""
WRITE = """
features = {
    "observation.state": {"dtype": "float32", "shape": (3,), "names": ["a", "b", "c"]},
    "observation.pose": {"dtype": "float32", "shape": (2, 2), "names": None},
    "observation.images.front": {
        "dtype": "video", "shape": (64, 64, 3), "names": ["height", "width", "channels"]},
    "action": {"dtype": "float32", "shape": (2,), "names": None},
}
sys.path.insert(0, sys.argv[2])
from lerobot_folders import picture
data = LeRobotDataset.create("test/test", fps=20, features=features, root=sys.argv[1])
for episode, length in enumerate((7, 5, 9)):
    for step in range(length):
        number = episode * 100 + step
        data.add_frame({
            "observation.state": np.array([episode, step, 0.5], np.float32),
            "observation.pose": np.full((2, 2), number, np.float32),
            "observation.images.front": picture(number),
            "action": np.array([step, -step], np.float32), "task": f"task {episode % 2}",
        })
    data.save_episode()
data.finalize()
"""


@pytest.fixture(scope="module")
def python() -> Path:
    """The Python of lerobot's environment."""
    ready, path = HOME / ".ready", HOME / "bin" / "python"
    if not ready.exists():
        venv.create(HOME, with_pip=True, symlinks=True)
        install = [path, "-m", "pip", "install", "--quiet", "--no-deps", *PACKAGES]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"lerobot cannot be installed: {done.stderr.strip().splitlines()[-1]}")
        (below,) = HOME.glob("lib/*/site-packages")
        (below / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n")
        ready.touch()
    return path


def run(python: Path, code: str, arguments: Sequence[object]) -> None:
    """Run code with lerobot imported, without a network."""
    command = [python, "-c", SHIM + code, *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=200,
        env={"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HOME": str(HOME)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


class Written:
    """Episodes with every kind of key, 20 timesteps a second."""

    fps = 20.0

    def __init__(self) -> None:
        from simscaleai_core.data.source import Episode, Key

        self.path = Path("memory")
        self.observations = [
            Key(name="joint_pos", shape=(3,), dtype="float64"),
            Key(name="pose", shape=(2, 2)),
            Key(name="gripper", shape=(1,), dtype="int64"),
            Key(name="top", shape=(3, 16, 20), kind="image"),
            Key(name="depth", shape=(1, 16, 20), kind="depth"),
        ]
        self.actions = Key(name="actions", shape=(2,))
        texts = ("push", "", "pull")
        self.episodes = [
            Episode(name=str(n), length=n + 4, instructions=(text,) if text else (), success=n > 1)
            for n, text in enumerate(texts)
        ]
        draw = np.random.default_rng(0)
        self.data: list[dict[str, Any]] = [
            {
                "joint_pos": draw.normal(size=(e.length, 3)),
                "pose": draw.normal(size=(e.length, 2, 2)),
                "gripper": draw.integers(0, 2, (e.length, 1)),
                "top": draw.integers(0, 256, (e.length, 16, 20, 3), np.uint8),
                "depth": draw.integers(0, 60000, (e.length, 16, 20)).astype(np.uint16),
                "actions": draw.normal(size=(e.length, 2)),
            }
            for e in self.episodes
        ]

    def read(self, episode: int, key: str, start: int, stop: int) -> Any:
        return self.data[episode][key][start:stop]

    def rewards(self, episode: int) -> Any:
        return np.arange(self.episodes[episode].length, dtype=np.float64)


def test_lerobot_opens_what_we_write(python: Path, tmp_path: Path) -> None:
    source = Written()
    write(source, tmp_path / "out")
    run(python, READ, (tmp_path / "out", tmp_path / "items.json"))
    found = json.loads((tmp_path / "items.json").read_text())
    assert (found["fps"], found["episodes"]) == (20, 3)
    items = iter(found["items"])
    for episode, told in enumerate(source.episodes):
        data = source.data[episode]
        for step in range(told.length):
            item, after = next(items), min(step + 1, told.length - 1)
            assert (item["episode_index"], item["frame_index"]) == (episode, step)
            assert item["timestamp"] == pytest.approx(step / 20)
            assert item["task"] == "".join(told.instructions)
            assert item["next.reward"] == step
            assert item["next.success"] is (step == told.length - 1 and bool(told.success))
            names = {"joint_pos": "observation.joint_pos", "pose": "observation.pose"}
            for key, name in names.items():
                np.testing.assert_allclose(item[name], data[key][step], rtol=1e-6)
            np.testing.assert_allclose(item["action"], data["actions"][[step, after]], rtol=1e-6)
            assert item["action_is_pad"] == [False, step == after]
            assert item["observation.gripper"] == data["gripper"][step, 0]
            np.testing.assert_array_equal(item["observation.depth"], data["depth"][step])
            image = np.rint(np.asarray(item["observation.images.top"]) * 255)
            np.testing.assert_array_equal(image, data["top"][step].transpose(2, 0, 1))
    assert next(items, None) is None


def test_what_lerobot_writes_is_read(python: Path, tmp_path: Path) -> None:
    """Videos as lerobot encodes them, AV1 with a keyframe every second frame, joined in one file."""
    run(python, WRITE, (tmp_path / "data", HERE))
    source = LeRobotSource(tmp_path / "data")
    assert [e.length for e in source.episodes] == [7, 5, 9]
    assert [e.instructions for e in source.episodes] == [(f"task {n % 2}",) for n in range(3)]
    for episode, told in enumerate(source.episodes):
        steps = np.arange(told.length)
        wanted = np.stack([np.full(told.length, episode), steps, np.full(told.length, 0.5)], axis=1)
        np.testing.assert_array_equal(
            source.read(episode, "observation.state", 0, told.length), wanted
        )
        pose = source.read(episode, "observation.pose", 0, told.length)
        np.testing.assert_array_equal(pose[:, 1, 0], episode * 100 + steps)
        frames = source.read(episode, "observation.images.front", 0, told.length)
        assert [number_in(frame) for frame in frames] == (episode * 100 + steps).tolist()
    data = LeRobotDataset(tmp_path / "data")
    stored, measured = source.stored_statistics(), data.describe().statistics
    for key in ("observation.state", "actions"):
        np.testing.assert_allclose(stored[key].mean, measured[key].mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(stored[key].high, measured[key].high)
    write(source, tmp_path / "again")
    run(python, READ, (tmp_path / "again", tmp_path / "items.json"))
