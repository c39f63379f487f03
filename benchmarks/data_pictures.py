"""Time per training sample of a LeRobot folder with PNG images: this project's feed and lerobot.

A generated LeRobot v3.0 folder, eight episodes of 100 steps with a 128 px camera, each image a PNG
of its own in parquet, is read in shuffled batches of windows by

- simscaleai feed, from the file: `LeRobotDataset` with `cache_images_gib=0`;
- simscaleai feed, in memory: the same, decoded once when it was opened;
- lerobot: its `LeRobotDataset` in a `DataLoader`; the baseline of ratios;
- decoding alone: Pillow, and FFmpeg as our reader uses it, on the bytes in memory; no reader of
  PNG can be faster.

One thread, no worker processes. First, what comes out is compared. lerobot has an environment of
its own, which the tests of the lerobot plugin make; its packages are looked up there where ours has
none of that name:

    python -m pytest -m slow plugins/simscaleai-plugin-lerobot/tests/test_lerobot_itself.py
    python benchmarks/data_pictures.py --libraries .venv-lerobot/lib/python3.11/site-packages
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import rounds
import torch
from batches import Batches, fed, measure
from rounds import Report, Target
from simscaleai_plugin_lerobot.dataset import LeRobotDataset
from simscaleai_plugin_lerobot.reading.pictures import decoded_pictures
from simscaleai_plugin_lerobot.writer import write
from torch.utils.data import DataLoader

from simscaleai_core.data.frames import decoded
from simscaleai_core.data.source import Episode, Key

FROM_FILE, IN_MEMORY = "simscaleai feed, from the file", "simscaleai feed, in memory"
BASELINE, PILLOW, FFMPEG = "lerobot", "decoding alone, Pillow", "decoding alone, FFmpeg"
CAMERA, FPS, EPISODES, STEPS, SIDE = "observation.images.front", 30, 8, 100, 128
WORKS = {1: 32, 10: 8}
"""Batch size by length of the window."""
NUM_BATCHES, LIMIT = 4, 0.3


class Made:
    """Episodes of a picture that moves, with a little noise, as a camera has it."""

    path, fps = Path("made"), float(FPS)
    observations = (
        Key(name="observation.state", shape=(8,)),
        Key(name=CAMERA, shape=(3, SIDE, SIDE), kind="image"),
    )
    actions = Key(name="actions", shape=(4,))
    episodes = tuple(
        Episode(name=str(number), length=STEPS, instructions=("push",))
        for number in range(EPISODES)
    )

    def __init__(self) -> None:
        draw = np.random.default_rng(0)
        coarse = draw.integers(0, 255, (SIDE // 4, SIDE // 4, 3))
        smooth = np.kron(coarse, np.ones((8, 8, 1)))
        for axis in (0, 1) * 6:
            smooth = (smooth + np.roll(smooth, 2, axis)) / 2
        self._picture = smooth

    def read(self, episode: int, key: str, start: int, stop: int) -> Any:
        """Return the timesteps from `start` to before `stop` of a key."""
        draw = np.random.default_rng([episode, start])
        if key != CAMERA:
            return draw.normal(size=(stop - start, 8 if "state" in key else 4)).astype(np.float32)
        places = [(episode * STEPS + step) * 3 % SIDE for step in range(start, stop)]
        seen = np.stack([self._picture[p : p + SIDE, p : p + SIDE] for p in places])
        return (seen + draw.integers(-3, 4, seen.shape)).clip(0, 255).astype(np.uint8)


def build_contenders(root: Path, window: int, batch: int) -> dict[str, rounds.Contender]:
    """Build every way to read the folder, each ready to give its first batch."""
    theirs = _lerobot(root, window)
    ours = LeRobotDataset(root, seq_len=window, cache_images_gib=0.0)
    for index in (0, STEPS // 2):
        mine = ours[index]["observations"][CAMERA]
        if not torch.allclose(mine, theirs[index][CAMERA].view_as(mine), atol=1e-6):
            raise RuntimeError("the dataset reads other frames")
    loader = partial(DataLoader, batch_size=batch, shuffle=True)
    held = LeRobotDataset(root, seq_len=window, cache_images_gib=1.0)
    (path,) = root.glob("data/*/*.parquet")
    cells = pq.read_table(path, columns=[CAMERA])[CAMERA].to_pylist()
    blobs = [cell["bytes"] for cell in cells]
    ways: dict[str, Batches] = {
        FROM_FILE: fed(loader(ours)),
        IN_MEMORY: fed(loader(held)),
        BASELINE: loader(theirs).__iter__,
        PILLOW: partial(_decoded, blobs, window * batch, decoded),
        FFMPEG: partial(_decoded, blobs, window * batch, decoded_pictures),
    }
    return {name: partial(measure, batches, NUM_BATCHES, batch) for name, batches in ways.items()}


def main() -> None:
    """Time every way and print the tables."""
    parser = rounds.parser(__doc__, rounds=5, output="runs/bench/data-pictures.json")
    parser.add_argument("--libraries", type=Path, help="folder of packages with lerobot")
    options = parser.parse_args()
    if options.libraries:
        sys.path.append(str(options.libraries))
    torch.set_num_threads(1)
    names = ("torch", "lerobot", "datasets", "pillow", "av", "simscaleai-plugin-lerobot")
    facts = rounds.machine(*names) | {"rounds": options.rounds, "threads": 1}
    report = Report("Time per training sample with PNG images", "us/sample", 1e6, BASELINE, facts)
    for window, batch in WORKS.items():
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "data"
            write(Made(), root)
            costs = rounds.round_robin(build_contenders(root, window, batch), options.rounds)
        title = f"{SIDE} x {SIDE} pixels, windows of {window}"
        rows = report.add(title, costs)
        for row in (FROM_FILE, IN_MEMORY):
            what = f"{row}, {title}, ratio to lerobot"
            report.targets.append(Target(what, rows[row].ratio_cpu, LIMIT))
    report.publish(options)


def _lerobot(root: Path, window: int) -> Any:
    # the wheel of torchvision is for CUDA; lerobot needs nothing of what it fails at
    if not hasattr(_lerobot, "library"):
        _lerobot.library = library = torch.library.Library("torchvision", "DEF")  # type: ignore[attr-defined]
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from lerobot.datasets.lerobot_dataset import LeRobotDataset as Theirs

    times_s = [step / FPS for step in range(window)]
    keys = ("action", "observation.state", CAMERA)
    options = {} if window == 1 else {"delta_timestamps": dict.fromkeys(keys, times_s)}
    return Theirs("made/made", root=root, **options)


def _decoded(blobs: list[bytes], count: int, decode: Any) -> Iterator[Any]:
    draw = np.random.default_rng(1)
    while True:
        yield decode([blobs[place] for place in draw.integers(0, len(blobs), count).tolist()])


if __name__ == "__main__":
    main()
