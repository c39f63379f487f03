"""Time per training sample with images: this project's feed beside a raw gather of the same frames.

A generated file of uint8 frames, stored plain with one frame a chunk, is read in shuffled batches

- simscaleai feed: `TrajectoryDataset` through the Trainer's own feed, up to the batch on its way to
  the device, where its uint8 images become float32;
- raw gather: one `index_select` of uint8 frames in memory into one buffer, channels first; the
  limit, and the baseline of ratios;
- gather and convert: the same, made float32 in [0, 1] on this processor;
- simscaleai feed, from the file: with `cache_images_gib=0`, at windows of 1.

One thread, no worker processes. Making the dataset is not part of the time. First, what comes out
is compared.

    python benchmarks/data_frames.py
    python benchmarks/data_frames.py --rounds 3 --only 128-1
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import rounds
import torch
from attrs import frozen
from batches import Batches, fed, measure
from rounds import Report, Target
from simscaleai_plugin_hdf5.dataset import TrajectoryDataset
from torch import Tensor
from torch.utils.data import DataLoader

OURS, BASELINE, FROM_FILE = "simscaleai feed", "raw gather", "simscaleai feed, from the file"


@frozen(kw_only=True)
class Work:
    """One size of frames and windows."""

    height: int
    width: int
    steps: int
    """Timesteps of each of four episodes."""
    window: int
    batch: int
    limit_us: float
    file_limit_us: float | None = None
    num_batches: int = 40


WORKS = {
    "128-1": Work(
        height=128, width=128, steps=200, window=1, batch=32, limit_us=6, file_limit_us=100
    ),
    "128-10": Work(height=128, width=128, steps=200, window=10, batch=8, limit_us=45),
    "128-50": Work(height=128, width=128, steps=200, window=50, batch=8, limit_us=350),
    "480x640-1": Work(height=480, width=640, steps=40, window=1, batch=32, limit_us=200),
}


def write_file(path: Path, work: Work) -> None:
    """Write four episodes of random frames, stored plain, one frame a chunk."""
    draw = np.random.default_rng(0)
    shape = (work.steps, work.height, work.width, 3)
    with h5py.File(path, "w") as file:
        for number in range(4):
            group = file.create_group(f"episode_{number}")
            frames = draw.integers(0, 256, shape, dtype=np.uint8)
            group.create_dataset("observations/image", data=frames, chunks=(1, *shape[1:]))
            group["observations/joint_pos"] = draw.normal(size=(work.steps, 7))
            group["actions"] = draw.normal(size=(work.steps, 4))


def build_contenders(path: Path, work: Work) -> dict[str, rounds.Contender]:
    """Build every way to read the file, each ready to give its first batch."""
    with h5py.File(path) as file:
        frames = torch.cat(
            [torch.from_numpy(file[f"episode_{e}/observations/image"][:]) for e in range(4)]
        )
    frames = frames.permute(0, 3, 1, 2).contiguous()
    ways: dict[str, Batches] = {
        OURS: _feed(path, work, 8.0, frames),
        BASELINE: partial(_gathered, frames, work),
        "gather and convert": partial(_converted, frames, work),
    }
    if work.file_limit_us is not None:
        ways[FROM_FILE] = _feed(path, work, 0.0, frames)
    return {
        name: partial(measure, batches, work.num_batches, work.batch)
        for name, batches in ways.items()
    }


def main() -> None:
    """Time every way and print the tables."""
    parser = rounds.parser(__doc__, rounds=7, output="runs/bench/data-frames.json")
    parser.add_argument("--only", nargs="+", default=list(WORKS), choices=list(WORKS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    facts = rounds.machine("torch", "numpy", "h5py", "simscaleai-core", "simscaleai-plugin-hdf5")
    facts |= {"rounds": options.rounds, "threads": torch.get_num_threads()}
    report = Report("Time per training sample with images", "us/sample", 1e6, BASELINE, facts)
    for name in options.only:
        work = WORKS[name]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "frames.h5"
            write_file(path, work)
            costs = rounds.round_robin(build_contenders(path, work), options.rounds)
        title = f"{work.width} x {work.height} pixels, windows of {work.window}"
        rows = report.add(title, costs)
        for row, limit in ((OURS, work.limit_us), (FROM_FILE, work.file_limit_us)):
            if limit is not None:
                what = f"{row}, {title}, CPU us per sample"
                report.targets.append(Target(what, rows[row].cpu_s * 1e6, limit))
    report.publish(options)


def _feed(path: Path, work: Work, gib: float, frames: Tensor) -> Batches:
    dataset = TrajectoryDataset(path, seq_len=work.window, cache_images_gib=gib)
    if not torch.equal(
        dataset[3]["observations"]["image"].reshape(-1, *frames.shape[1:])[0],
        frames[3].float().div(255),
    ):
        raise RuntimeError("the dataset reads other frames")
    loader: DataLoader[Any] = DataLoader(dataset, batch_size=work.batch, shuffle=True)
    return fed(loader)


def _gathered(frames: Tensor, work: Work) -> Iterable[Tensor]:
    buffer = torch.empty((work.batch * work.window, *frames.shape[1:]), dtype=torch.uint8)
    per_episode = work.steps - work.window + 1
    starts = (torch.arange(4)[:, None] * work.steps + torch.arange(per_episode)).flatten()
    while True:
        for chosen in starts[torch.randperm(len(starts))].split(work.batch):
            if len(chosen) == work.batch:
                rows = (chosen[:, None] + torch.arange(work.window)).flatten()
                yield torch.index_select(frames, 0, rows, out=buffer)


def _converted(frames: Tensor, work: Work) -> Iterable[Tensor]:
    return (found.float().div_(255) for found in _gathered(frames, work))


if __name__ == "__main__":
    main()
