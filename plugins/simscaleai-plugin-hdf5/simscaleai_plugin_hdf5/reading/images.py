"""Where images come from: memory if all of them fit, the file if not.

Rows count timesteps over all episodes of the file, as in the packed matrix. Either source gives
float32 in [0, 1], channels first; the conversion happens once per batch.
"""

from __future__ import annotations

from typing import Any, Protocol

import h5py
import numpy as np
import numpy.typing as npt
import torch
from attrs import frozen
from torch import Tensor

from simscaleai_plugin_hdf5.checks import Location
from simscaleai_plugin_hdf5.layout import OBSERVATIONS, FileLayout, KeyLayout
from simscaleai_plugin_hdf5.reading.guard import dataset_in, group_in
from simscaleai_plugin_hdf5.reading.opening import FileHandle
from simscaleai_plugin_hdf5.reading.timesteps import Timesteps

Rows = npt.NDArray[np.int64]
Frames = npt.NDArray[np.uint8]


class FrameSource(Protocol):
    """Gives images by row."""

    @property
    def in_memory(self) -> bool:
        """Whether nothing is read from the file."""
        ...

    def gather(self, key: str, rows: Tensor) -> Tensor:
        """Return images float32 `[R, C, H, W]` in [0, 1] for rows int64 `[R]`, in any order."""
        ...


def frame_source(
    file: h5py.File, layout: FileLayout, offsets: Rows, budget_gib: float
) -> FrameSource:
    """Choose where images come from, and read them if they fit.

    Args:
        file: The open file.
        layout: What it holds.
        offsets: First row of each episode and the number of rows at the end, int64 `[E + 1]`.
        budget_gib: Largest total size of the images that are held in memory [GiB].

    Returns:
        The source.
    """
    total_bytes = int(offsets[-1]) * sum(key.width for key in layout.images)
    if total_bytes > budget_gib * 2**30:
        return FileFrames(layout, offsets)
    return MemoryFrames({key.name: _read_all(file, layout, offsets, key) for key in layout.images})


@frozen(eq=False)
class MemoryFrames:
    """Images in memory.

    Args:
        frames: Images of each key, uint8 `[N, C, H, W]`.
    """

    frames: dict[str, Tensor]

    @property
    def in_memory(self) -> bool:
        """Whether nothing is read from the file."""
        return True

    def gather(self, key: str, rows: Tensor) -> Tensor:
        """Return images `[R, C, H, W]` for rows `[R]`; see `FrameSource`."""
        return self.frames[key].index_select(0, rows).float().div_(255)


class FileFrames:
    """Images in the file, read where they are needed.

    Safe in worker processes: each opens the file for itself, when it first reads.

    Args:
        layout: What the file holds.
        offsets: First row of each episode and the number of rows at the end, int64 `[E + 1]`.
    """

    def __init__(self, layout: FileLayout, offsets: Rows) -> None:
        self._layout = layout
        self._offsets = offsets
        self._handle = FileHandle(layout.path, layout.stamp)
        self._shapes = {key.name: key.shape for key in layout.images}

    @property
    def in_memory(self) -> bool:
        """Whether nothing is read from the file."""
        return not self._shapes

    def gather(self, key: str, rows: Tensor) -> Tensor:
        """Return images `[R, C, H, W]` for rows `[R]`; each chunk of the file is read once."""
        needed, inverse = np.unique(rows.numpy(), return_inverse=True)
        channels, height, width = self._shapes[key]
        frames = np.empty((len(needed), height, width, channels), dtype=np.uint8)
        episodes = np.searchsorted(self._offsets, needed, side="right") - 1
        first = np.flatnonzero(np.diff(episodes, prepend=-1))
        for begin, end in zip(first, [*first[1:], len(needed)], strict=True):
            episode = int(episodes[begin])
            local = needed[begin:end] - self._offsets[episode]
            self._read_episode(key, episode, local, frames[begin:end])
        chosen = torch.from_numpy(frames).index_select(0, torch.from_numpy(inverse))
        return chosen.permute(0, 3, 1, 2).contiguous().float().div_(255)

    def _read_episode(self, key: str, episode: int, local: Rows, frames: Frames) -> None:
        name = self._layout.episodes[episode].name
        source = self._handle.timesteps((name, OBSERVATIONS, key))
        for begin, end in _spans(local, source.chunk_steps):
            start, stop = int(local[begin]), int(local[end - 1]) + 1
            frames[begin:end] = source.read(start, stop)[local[begin:end] - start]


def _spans(local: Rows, chunk_steps: int) -> list[tuple[int, int]]:
    # Sorted timesteps that are neighbours, or share a chunk, are worth one read.
    apart = (np.diff(local) > 1) & (np.diff(local // chunk_steps) > 0)
    starts = [0, *(np.flatnonzero(apart) + 1).tolist()]
    return list(zip(starts, [*starts[1:], len(local)], strict=True))


def _read_all(file: h5py.File, layout: FileLayout, offsets: Rows, key: KeyLayout) -> Tensor:
    frames = torch.empty((int(offsets[-1]), *key.shape), dtype=torch.uint8)
    for episode, start in zip(layout.episodes, offsets[:-1].tolist(), strict=True):
        location = Location(path=layout.path, episode=episode.name, key=key.name)
        group: Any = group_in(file, episode.name, location)
        dataset = dataset_in(group_in(group, OBSERVATIONS, location), key.name, location)
        source = Timesteps(dataset, location)
        for begin, end in source.blocks():
            block = torch.from_numpy(source.read(begin, end))
            frames[start + begin : start + end] = block.permute(0, 3, 1, 2)
    return frames
