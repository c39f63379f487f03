"""Save replay buffers with Zarr 2 as Diffusion Policy does, and dump what Zarr 2 reads of them."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs import Blosc

ENDS = (9, 13, 24)
COMPRESSORS = {
    "default": Blosc(cname="lz4", clevel=5, shuffle=Blosc.NOSHUFFLE),
    "disk": Blosc("zstd", clevel=5, shuffle=Blosc.BITSHUFFLE),
    "none": None,
}
"""The ReplayBuffer's own names for how it compresses."""


def save(store: Any, data: dict[str, Any], compressor: Any, chunks: int) -> None:
    root = zarr.group(store)
    meta = root.create_group("meta", overwrite=True)
    ends = np.array(ENDS, np.int64)
    meta.array(name="episode_ends", data=ends, shape=ends.shape, chunks=ends.shape)
    group = root.create_group("data", overwrite=True)
    for key, value in data.items():
        group.array(
            name=key, data=value, chunks=(chunks, *value.shape[1:]), compressor=compressor
        )  # fmt: skip


draw, folder = np.random.default_rng(0), Path(sys.argv[1])
steps = ENDS[-1]
for name, compressor in COMPRESSORS.items():
    data = {
        "action": draw.normal(size=(steps, 2)).astype(np.float32),
        "state": draw.normal(size=(steps, 5)),
        "keypoint": draw.normal(size=(steps, 9, 2)).astype(np.float32),
        "n_contacts": draw.integers(0, 9, (steps, 1)),
        "zeros": np.zeros((steps, 3), np.float32),
        "img": draw.integers(0, 256, (steps, 24, 20, 3), np.uint8),
        "float_img": draw.integers(0, 256, (steps, 24, 20, 3)).astype(np.float32),
        "depth": draw.integers(0, 5000, (steps, 24, 20), np.uint16),
    }
    store = zarr.DirectoryStore(folder / f"{name}.zarr")
    save(store, data, compressor, 1 if name == "none" else 7)
    root = zarr.open(store, "r")
    found = {key: root["data"][key][:] for key in data}
    np.savez(folder / f"{name}.npz", episode_ends=root["meta/episode_ends"][:], **found)
    with zarr.ZipStore(folder / f"{name}.zarr.zip", mode="w") as packed:
        zarr.copy_store(store, packed)
