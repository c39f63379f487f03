"""Small LeRobot folders, v3.0 and v2.1, whose frames carry their number as a picture.

A frame of 64 x 64 pixels is a square of 4 x 4 cells, each a bit of the number, black or white: a
lossy codec changes the pixels, and not the number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FPS = 10
CAMERAS = ("observation.images.front", "observation.images.wrist")
STATE, ACTION = "observation.state", "action"
TASKS = ("push the cube", "open the drawer")

H264: tuple[str, dict[str, str]] = ("libx264", {"g": "12", "bf": "2", "preset": "ultrafast"})
MPEG4: tuple[str, dict[str, str]] = ("mpeg4", {"g": "5"})


def picture(number: int) -> np.ndarray:
    """Return the frame `[64, 64, 3]` that shows a number below 65536."""
    bits = np.array([number >> place & 1 for place in range(16)], dtype=np.uint8).reshape(4, 4)
    return np.repeat(np.kron(bits * 255, np.ones((16, 16), np.uint8))[..., None], 3, axis=2)


def number_in(frame: np.ndarray) -> int:
    """Return the number that a frame `[64, 64, C]` shows."""
    bits = frame.reshape(4, 16, 4, 16, -1).mean(axis=(1, 3, 4)) > 127
    return int((bits.ravel() << np.arange(16)).sum())


def number_of(camera: str, episode: int, timestep: int) -> int:
    """Return the number that is shown at a timestep."""
    return CAMERAS.index(camera) * 1000 + episode * 100 + timestep


def write_video(
    path: Path,
    numbers: Sequence[int],
    codec: tuple[str, Mapping[str, str]] = H264,
    times: Sequence[int] | None = None,
) -> None:
    """Write a video of numbered frames; `times` are timesteps, 0, 1, 2, ... if not given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec[0], rate=FPS, options=dict(codec[1]))
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for place, number in enumerate(numbers):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts = place if times is None else times[place]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def state_of(episode: int, length: int) -> np.ndarray:
    """Return the states `[T, 3]` of an episode."""
    return (episode + np.arange(length * 3).reshape(length, 3) / 100).astype(np.float32)


def rows_of(episode: int, length: int, first: int) -> dict[str, Any]:
    """Return the columns of an episode's parquet rows."""
    steps = np.arange(length)
    state = state_of(episode, length)
    return {
        STATE: pa.FixedSizeListArray.from_arrays(pa.array(state.ravel()), 3),
        ACTION: pa.array((state[:, :2] * 2).tolist(), pa.list_(pa.float32())),
        "observation.pose": pa.array(
            np.broadcast_to(state[:, :2, None], (length, 2, 2)).tolist(),
            pa.list_(pa.list_(pa.float32())),
        ),
        "observation.gripper": pa.array(steps % 2, pa.int64()),
        "next.reward": pa.array(steps, pa.float32()),
        "next.success": pa.array((steps == length - 1) & (episode != 1)),
        "timestamp": pa.array(steps / FPS, pa.float32()),
        "frame_index": pa.array(steps),
        "episode_index": pa.array(np.full(length, episode)),
        "index": pa.array(first + steps),
        "task_index": pa.array(np.full(length, episode % 2)),
    }


def features(cameras: Sequence[str]) -> dict[str, Any]:
    """Return the features of a folder."""
    found: dict[str, Any] = {
        STATE: {"dtype": "float32", "shape": [3], "names": {"motors": ["hip", "knee", "toe"]}},
        ACTION: {"dtype": "float32", "shape": [2], "names": ["dx", "dy"]},
        "observation.pose": {"dtype": "float32", "shape": [2, 2], "names": None},
        "observation.gripper": {"dtype": "int64", "shape": [1], "names": None},
        "next.reward": {"dtype": "float32", "shape": [1], "names": None},
        "next.success": {"dtype": "bool", "shape": [1], "names": None},
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    }
    for name in ("frame_index", "episode_index", "index", "task_index"):
        found[name] = {"dtype": "int64", "shape": [1], "names": None}
    axes = ["height", "width", "channel"]
    return {
        **found,
        **{c: {"dtype": "video", "shape": [64, 64, 3], "names": axes} for c in cameras},
    }


def write_v3(
    root: Path,
    lengths: Sequence[int],
    cameras: Sequence[str] = CAMERAS,
    codec: tuple[str, Mapping[str, str]] = H264,
    episodes_per_file: int = 2,
) -> Path:
    """Write a v3.0 folder, several episodes in a parquet file and in a video."""
    info = {
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }
    write_info(root, "v3.0", lengths, cameras, info)
    edges = np.concatenate(([0], np.cumsum(lengths)))
    rows = []
    for file, begin in enumerate(range(0, len(lengths), episodes_per_file)):
        members = range(begin, min(begin + episodes_per_file, len(lengths)))
        path = root / info["data_path"].format(chunk_index=0, file_index=file)
        path.parent.mkdir(parents=True, exist_ok=True)
        tables = [pa.table(rows_of(e, lengths[e], edges[e])) for e in members]
        pq.write_table(pa.concat_tables(tables), path)
        for episode in members:
            start_s = (edges[episode] - edges[begin]) / FPS
            row = {
                "episode_index": episode, "tasks": [TASKS[episode % 2]],
                "length": lengths[episode], "data/chunk_index": 0, "data/file_index": file,
                "dataset_from_index": int(edges[episode]),
                "dataset_to_index": int(edges[episode + 1]),
            }  # fmt: skip
            for camera in cameras:
                here = f"videos/{camera}"
                row |= {f"{here}/chunk_index": 0, f"{here}/file_index": file}
                row |= {f"{here}/from_timestamp": start_s}
                row |= {f"{here}/to_timestamp": start_s + lengths[episode] / FPS}
            rows.append(row)
        for camera in cameras:
            numbers = [number_of(camera, e, t) for e in members for t in range(lengths[e])]
            video = info["video_path"].format(video_key=camera, chunk_index=0, file_index=file)
            write_video(root / video, numbers, codec)
    write_index(root, rows)
    table = pa.table({"task_index": [0, 1], "__index_level_0__": list(TASKS)})
    pq.write_table(table, root / "meta" / "tasks.parquet")
    return root


def write_index(root: Path, rows: list[dict[str, Any]]) -> None:
    """Write the index of a v3.0 folder."""
    path = root / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def index_of(root: Path) -> list[dict[str, Any]]:
    """Return the index of a v3.0 folder."""
    path = root / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def write_v2(
    root: Path,
    lengths: Sequence[int],
    cameras: Sequence[str] = CAMERAS,
    codec: tuple[str, Mapping[str, str]] = H264,
) -> Path:
    """Write a v2.1 folder: a parquet file and a video for each episode."""
    info = {
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    }
    write_info(root, "v2.1", lengths, cameras, info)
    first, lines = 0, []
    for episode, length in enumerate(lengths):
        place = {"episode_chunk": episode // 2, "episode_index": episode}
        path = root / info["data_path"].format(**place)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(rows_of(episode, length, first)), path)
        first += length
        for camera in cameras:
            numbers = [number_of(camera, episode, t) for t in range(length)]
            write_video(root / info["video_path"].format(video_key=camera, **place), numbers, codec)
        lines.append({"episode_index": episode, "tasks": [TASKS[episode % 2]], "length": length})
    write_lines(root / "meta" / "episodes.jsonl", lines)
    tasks = [{"task_index": n, "task": text} for n, text in enumerate(TASKS)]
    write_lines(root / "meta" / "tasks.jsonl", tasks)
    return root


def write_info(
    root: Path,
    version: str,
    lengths: Sequence[int],
    cameras: Sequence[str],
    paths: Mapping[str, str],
) -> None:
    """Write ``meta/info.json``, with the last episode held out."""
    count = len(lengths)
    info = {
        "codebase_version": version, "robot_type": "test", "total_episodes": count,
        "total_frames": sum(lengths), "total_tasks": 2, "chunks_size": 2, "fps": FPS,
        "splits": {"train": f"0:{count - 1}", "val": f"{count - 1}:{count}"}, **paths,
        "features": features(cameras),
    }  # fmt: skip
    (root / "meta").mkdir(parents=True)
    (root / "meta" / "info.json").write_text(json.dumps(info))


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a JSON table a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def change_info(root: Path, **changes: Any) -> None:
    """Change entries of ``meta/info.json``; those that are None are removed."""
    path = root / "meta" / "info.json"
    table = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in table.items() if v is not None}))


def change_features(root: Path, changes: Mapping[str, Any]) -> None:
    """Change entries of ``features``; those that are None are removed."""
    table = json.loads((root / "meta" / "info.json").read_text())["features"]
    found = {**table, **changes}
    change_info(root, features={k: v for k, v in found.items() if v is not None})


def change_table(path: Path, changes: Mapping[str, Any]) -> None:
    """Change columns of a parquet file; those that are None are removed, new ones added."""
    table = pq.read_table(path)
    found = {**{name: table[name] for name in table.column_names}, **changes}
    pq.write_table(pa.table({k: v for k, v in found.items() if v is not None}), path)
