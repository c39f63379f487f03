"""Time per training sample of a LeRobot folder with video: this project's feed beside PyAV.

A generated LeRobot v3.0 folder, four episodes in one AV1 video with a keyframe every two frames as
lerobot writes it, is read in shuffled batches of windows by

- simscaleai feed, from the video: `LeRobotDataset` with `cache_images_gib=0`;
- simscaleai feed, in memory: the same, decoded once when it was opened;
- PyAV, a seek for each window: one open video, a seek to the keyframe before, then forward; the
  baseline of ratios;
- PyAV, opened for each window: the same, the video opened each time.

One thread, no worker processes. First, what comes out is compared.

    python benchmarks/data_video.py
    python benchmarks/data_video.py --rounds 1 --only 128-1
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import rounds
import torch
from attrs import frozen
from batches import Batches, fed, measure
from rounds import Report, Target
from simscaleai_plugin_lerobot.dataset import LeRobotDataset
from torch.utils.data import DataLoader

FROM_VIDEO, IN_MEMORY = "simscaleai feed, from the video", "simscaleai feed, in memory"
BASELINE, OPENED = "PyAV, a seek for each window", "PyAV, opened for each window"
CAMERA, FPS, EPISODES, STEPS = "observation.images.front", 30, 4, 100
LIMIT = 0.3

Frames = npt.NDArray[np.uint8]


@frozen(kw_only=True)
class Work:
    """One size of frames and windows."""

    height: int
    width: int
    window: int
    batch: int
    num_batches: int = 10


WORKS = {
    "128-1": Work(height=128, width=128, window=1, batch=32),
    "128-10": Work(height=128, width=128, window=10, batch=8),
    "480x640-1": Work(height=480, width=640, window=1, batch=32, num_batches=4),
    "480x640-10": Work(height=480, width=640, window=10, batch=8, num_batches=4),
}


def write_folder(root: Path, work: Work) -> Path:
    """Write the folder; return its video."""
    count = EPISODES * STEPS
    column = {"dtype": "float32", "names": None}
    video = root / f"videos/{CAMERA}/chunk-000/file-000.mp4"
    info = {
        "codebase_version": "v3.0", "total_episodes": EPISODES, "total_frames": count, "fps": FPS,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": {
            "observation.state": {**column, "shape": [7]}, "action": {**column, "shape": [4]},
            CAMERA: {"dtype": "video", "shape": [work.height, work.width, 3], "names": None},
        },
    }  # fmt: skip
    for folder in ("meta/episodes/chunk-000", "data/chunk-000"):
        (root / folder).mkdir(parents=True)
    (root / "meta/info.json").write_text(json.dumps(info))
    draw, steps = np.random.default_rng(0), np.arange(count)
    rows = {
        "observation.state": list(draw.normal(size=(count, 7)).astype(np.float32)),
        "action": list(draw.normal(size=(count, 4)).astype(np.float32)),
        "timestamp": (steps % STEPS / FPS).astype(np.float32), "frame_index": steps % STEPS,
        "episode_index": steps // STEPS, "index": steps, "task_index": np.zeros(count, int),
    }  # fmt: skip
    pq.write_table(pa.table(rows), root / "data/chunk-000/file-000.parquet")
    tasks = pa.table({"task_index": [0], "__index_level_0__": ["push"]})
    pq.write_table(tasks, root / "meta/tasks.parquet")
    episodes = [_index_row(number) for number in range(EPISODES)]
    index = root / "meta/episodes/chunk-000/file-000.parquet"
    pq.write_table(pa.Table.from_pylist(episodes), index)
    _write_video(video, work)
    return video


def build_contenders(root: Path, video: Path, work: Work) -> dict[str, rounds.Contender]:
    """Build every way to read the folder, each ready to give its first batch."""
    ways: dict[str, Batches] = {
        FROM_VIDEO: _feed(root, video, work, 0.0),
        IN_MEMORY: _feed(root, video, work, 8.0),
        BASELINE: partial(_sought, video, work, False),
        OPENED: partial(_sought, video, work, True),
    }
    return {
        name: partial(measure, batches, work.num_batches, work.batch)
        for name, batches in ways.items()
    }


def main() -> None:
    """Time every way and print the tables."""
    parser = rounds.parser(__doc__, rounds=5, output="runs/bench/data-video.json")
    parser.add_argument("--only", nargs="+", default=list(WORKS), choices=list(WORKS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    facts = rounds.machine("torch", "av", "pyarrow", "simscaleai-core", "simscaleai-plugin-lerobot")
    facts |= {"rounds": options.rounds, "threads": torch.get_num_threads()}
    report = Report("Time per training sample with video", "us/sample", 1e6, BASELINE, facts)
    for name in options.only:
        work = WORKS[name]
        with tempfile.TemporaryDirectory() as folder:
            video = write_folder(Path(folder) / "data", work)
            contenders = build_contenders(Path(folder) / "data", video, work)
            costs = rounds.round_robin(contenders, options.rounds)
        title = f"{work.width} x {work.height} pixels, windows of {work.window}"
        rows = report.add(title, costs)
        for row in (FROM_VIDEO, IN_MEMORY):
            what = f"{row}, {title}, ratio to PyAV with a seek"
            report.targets.append(Target(what, rows[row].ratio_cpu, LIMIT))
    report.publish(options)


def _index_row(number: int) -> dict[str, Any]:
    here, first = f"videos/{CAMERA}", number * STEPS
    return {
        "episode_index": number, "tasks": ["push"], "length": STEPS,
        "data/chunk_index": 0, "data/file_index": 0,
        "dataset_from_index": first, "dataset_to_index": first + STEPS,
        f"{here}/chunk_index": 0, f"{here}/file_index": 0,
        f"{here}/from_timestamp": first / FPS, f"{here}/to_timestamp": (first + STEPS) / FPS,
    }  # fmt: skip


def _write_video(path: Path, work: Work) -> None:
    """Write a bright square that moves over a slope, in AV1, a keyframe every two frames."""
    path.parent.mkdir(parents=True)
    slope = np.linspace(0, 160, work.width, dtype=np.uint8)
    with av.open(str(path), "w") as container:
        options = {"g": "2", "crf": "30", "preset": "12"}
        stream = container.add_stream("libsvtav1", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = work.width, work.height, "yuv420p"
        for number in range(EPISODES * STEPS):
            picture = np.broadcast_to(slope[None, :, None], (work.height, work.width, 3)).copy()
            left = number * 3 % (work.width - 24)
            picture[20:52, left : left + 24] = (250, number % 256, 60)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def _feed(root: Path, video: Path, work: Work, gib: float) -> Batches:
    dataset = LeRobotDataset(root, seq_len=work.window, cache_images_gib=gib)
    mine = dataset[7]["observations"][CAMERA].reshape(-1, 3, work.height, work.width)[0]
    with _opened(video) as container:
        theirs = torch.from_numpy(next(_window(container, 7, 1))).permute(2, 0, 1) / 255
    if not torch.allclose(mine, theirs, atol=2 / 255):
        raise RuntimeError("the dataset reads other frames")
    loader: DataLoader[Any] = DataLoader(dataset, batch_size=work.batch, shuffle=True)
    return fed(loader)


def _opened(video: Path) -> Any:
    container = av.open(str(video))
    container.streams.video[0].thread_count = 1
    return container


def _window(container: Any, first: int, length: int) -> Iterator[Frames]:
    """Yield the frames of a window: a seek to the keyframe before it, then forward."""
    stream = container.streams.video[0]
    per_frame = 1 / (FPS * stream.time_base)
    container.seek(round(first * per_frame), stream=stream)
    for frame in container.decode(stream):
        number = round(frame.pts / per_frame)
        if number >= first:
            yield frame.to_ndarray(format="rgb24")
        if number >= first + length - 1:
            return


def _sought(video: Path, work: Work, is_opened: bool) -> Iterable[Any]:
    per_episode = STEPS - work.window + 1
    starts = np.array([e * STEPS + t for e in range(EPISODES) for t in range(per_episode)])
    draw, kept = np.random.default_rng(1), _opened(video)
    while True:
        order = draw.permutation(starts)
        for begin in range(0, len(order) - work.batch + 1, work.batch):
            batch = []
            for first in order[begin : begin + work.batch].tolist():
                container = _opened(video) if is_opened else kept
                batch.append(np.stack(list(_window(container, first, work.window))))
                if is_opened:
                    container.close()
            yield torch.from_numpy(np.stack(batch)).permute(0, 1, 4, 2, 3).contiguous()


if __name__ == "__main__":
    main()
