"""Record episodes as ALOHA's recorder does, and dump what ACT's own data set gives of them.

Frames go through OpenCV, which takes and gives blue, green, red.
"""

import sys
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np

LENGTH, JOINTS, CAMERAS, SIZE = 7, 14, ("cam_high", "cam_left_wrist"), (48, 64, 3)


def seen(draw: np.random.Generator) -> Any:
    small = draw.integers(0, 256, (LENGTH, 6, 8, 3), np.uint8)
    return [cv2.resize(frame, SIZE[1::-1], interpolation=cv2.INTER_LINEAR) for frame in small]


def as_padded_jpegs(images: dict[str, Any]) -> list[list[int]]:
    """Compress frames in place, all to one size with zeros; return their own sizes."""
    lengths = []
    for name, frames in images.items():
        encoded = [cv2.imencode(".jpg", f, [cv2.IMWRITE_JPEG_QUALITY, 50])[1] for f in frames]
        images[name] = [raw.reshape(-1) for raw in encoded]
        lengths.append([len(raw) for raw in images[name]])
    size = max(map(max, lengths))
    for name, frames in images.items():
        padded = np.zeros((LENGTH, size), np.uint8)
        for row, raw in zip(padded, frames, strict=True):
            row[: len(raw)] = raw
        images[name] = padded
    return lengths


def record(path: Path, draw: np.random.Generator, *, sim: bool, compress: bool) -> None:
    data: dict[str, Any] = {
        name: draw.normal(size=(LENGTH, JOINTS))
        for name in ("observations/qpos", "observations/qvel", "observations/effort", "action")
    }
    if not sim:
        data["base_action"] = draw.normal(size=(LENGTH, 2))
    images = {f"observations/images/{name}": seen(draw) for name in CAMERAS}
    lengths = as_padded_jpegs(images) if compress else []
    with h5py.File(path, "w", rdcc_nbytes=1024**2 * 2) as root:
        root.attrs["sim"] = sim
        if not sim:
            root.attrs["compress"] = compress
        for name, values in images.items():
            step = np.shape(values)[1:]
            root.create_dataset(name, (LENGTH, *step), dtype="uint8", chunks=(1, *step))
        for name, values in data.items():
            root.create_dataset(name, values.shape, dtype="f4")
        for name, values in {**data, **images}.items():
            root[name][...] = values
        if compress:
            root.create_dataset("compress_len", (len(CAMERAS), LENGTH), dtype="f4")
            root["compress_len"][...] = lengths


def as_act_reads(path: Path, start: int) -> dict[str, Any]:
    """Return an item of ACT's EpisodicDataset that starts at a given timestep."""
    with h5py.File(path, "r") as root:
        is_sim, compressed = root.attrs["sim"], root.attrs.get("compress", False)
        length = root["/action"].shape[0]
        item = {
            "qpos": root["/observations/qpos"][start],
            "qvel": root["/observations/qvel"][start],
        }
        for name in root["/observations/images/"]:
            image = root[f"/observations/images/{name}"][start]
            item[name] = cv2.imdecode(image, 1) if compressed else image
        first = start if is_sim else max(0, start - 1)
        action = root["/action"][first:]
    padded = np.zeros((length, JOINTS), np.float32)
    padded[: len(action)] = action
    return {**item, "action": padded, "is_pad": np.arange(length) >= len(action)}


draw, folder = np.random.default_rng(0), Path(sys.argv[1])
for kind, sim, compress in (("sim", True, False), ("raw", False, False), ("jpeg", False, True)):
    (folder / kind).mkdir()
    found: dict[str, Any] = {}
    for episode in (0, 1, 10):
        path = folder / kind / f"episode_{episode}.hdf5"
        record(path, draw, sim=sim, compress=compress)
        items = [as_act_reads(path, start) for start in range(LENGTH)]
        for key in items[0]:
            found[f"{episode}/{key}"] = np.stack([item[key] for item in items])
    np.savez(folder / f"{kind}.npz", **found)
