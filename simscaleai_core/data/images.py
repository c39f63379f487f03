"""Frames by row: from memory as far as it is granted, from the data where it is not.

Rows count timesteps over all chosen episodes, as in the packed matrix. Images are uint8, channels
first, and become float32 where they are used; depth is float32 in the units of the data.

R: rows that are asked for, N: rows of all chosen episodes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from attrs import define, field
from torch import Tensor

from simscaleai_core.data.location import Location
from simscaleai_core.data.source import EpisodeSource, Key

logger = logging.getLogger("simscaleai")

Rows = npt.NDArray[np.int64]

_BLOCK_BYTES = 32 * 2**20


@define(eq=False)
class FrameStore:
    """Images and depth of the chosen episodes.

    Args:
        source: The data.
        positions: The chosen episodes, as the source counts them.
        offsets: First row of each of them and the number of rows at the end, int64 `[E + 1]`.
        keys: Keys of the data by their names in samples.
    """

    source: EpisodeSource
    positions: Sequence[int]
    offsets: Rows
    keys: Mapping[str, Key]
    _held: dict[str, Tensor] = field(factory=dict, init=False)
    _held_rows: int = field(default=0, init=False)

    @property
    def in_memory(self) -> bool:
        """Whether nothing is read from the data any more."""
        return not self.keys or self._held_rows == int(self.offsets[-1])

    def fill(self, budget_gib: float) -> None:
        """Read the frames of the first episodes, as many as fit.

        Args:
            budget_gib: Largest total size of what is held [GiB].
        """
        row_bytes = sum(k.width * _dtype(k).itemsize for k in self.keys.values())
        if not row_bytes:
            return
        total = int(self.offsets[-1])
        fitting = int(min(total, budget_gib * 2**30 / row_bytes))
        count = int(np.searchsorted(self.offsets, fitting, side="right")) - 1
        rows = int(self.offsets[count])
        self._held = {name: self._read_all(name, count) for name in self.keys} if rows else {}
        self._held_rows = rows
        if rows < total and budget_gib:
            logger.info(
                "images of %d of %d episodes are held in memory (%.2f of %.2f GiB, "
                "cache_images_gib=%g); the others are read for each batch", count,
                len(self.positions), rows * row_bytes / 2**30, total * row_bytes / 2**30,
                budget_gib,
            )  # fmt: skip

    def gather(self, name: str, rows: Tensor) -> Tensor:
        """Return frames for rows, in any order; each is read once.

        Args:
            name: Name of the key in samples.
            rows: Rows, int64 `[R]`.

        Returns:
            Images uint8, or depth float32, `[R, C, H, W]`.
        """
        if self.in_memory:
            return self._held[name].index_select(0, rows)
        needed, inverse = np.unique(rows.numpy(), return_inverse=True)
        frames = torch.empty((len(needed), *self.keys[name].shape), dtype=_dtype(self.keys[name]))
        count = int(np.searchsorted(needed, self._held_rows))
        if count:
            held = self._held[name].index_select(0, torch.from_numpy(needed[:count]))
            frames[:count] = held
        if count < len(needed):
            self._read(name, needed[count:], frames[count:])
        return frames.index_select(0, torch.from_numpy(inverse))

    def _read(self, name: str, rows: Rows, frames: Tensor) -> None:
        """Read sorted rows, episode by episode."""
        episodes = np.searchsorted(self.offsets, rows, side="right") - 1
        first = np.flatnonzero(np.diff(episodes, prepend=-1))
        take = getattr(self.source, "take", None) or self._take
        for begin, end in zip(first, [*first[1:], len(rows)], strict=True):
            place = int(episodes[begin])
            timesteps = rows[begin:end] - self.offsets[place]
            values = take(self.positions[place], self.keys[name].name, timesteps)
            frames[begin:end] = self._converted(name, place, values, int(end - begin))

    def _take(self, episode: int, key: str, timesteps: Rows) -> npt.NDArray[Any]:
        """Read sorted timesteps of one episode, neighbours together."""
        starts = [0, *(np.flatnonzero(np.diff(timesteps) > 1) + 1).tolist()]
        spans = zip(starts, [*starts[1:], len(timesteps)], strict=True)
        parts = [
            self.source.read(episode, key, int(timesteps[a]), int(timesteps[b - 1]) + 1)
            for a, b in spans
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _read_all(self, name: str, count: int) -> Tensor:
        key = self.keys[name]
        frames = torch.empty((int(self.offsets[count]), *key.shape), dtype=_dtype(key))
        steps = max(1, _BLOCK_BYTES // (key.width * _dtype(key).itemsize))
        for place in range(count):
            row, end = int(self.offsets[place]), int(self.offsets[place + 1])
            length = end - row
            for start in range(0, length, steps):
                stop = min(start + steps, length)
                values = self.source.read(self.positions[place], key.name, start, stop)
                frames[row + start : row + stop] = self._converted(
                    name, place, values, stop - start
                )
        return frames

    def _converted(self, name: str, place: int, values: npt.NDArray[Any], expected: int) -> Tensor:
        key = self.keys[name]
        channels, height, width = key.shape
        wanted = (expected, height, width, channels)[: 3 if key.kind == "depth" else 4]
        if values.shape != wanted or (key.kind == "image" and values.dtype != np.uint8):
            episode = self.source.episodes[self.positions[place]].name
            raise Location(path=self.source.path, episode=episode, key=key.name).error(
                f"frames {list(wanted)}" + (" of uint8" if key.kind == "image" else ""),
                f"{list(values.shape)} of {values.dtype}",
                "Remove or repair the episode",
            )
        if key.kind == "depth":
            return torch.from_numpy(values.astype(np.float32))[:, None]
        return torch.from_numpy(np.ascontiguousarray(values)).permute(0, 3, 1, 2)


def _dtype(key: Key) -> torch.dtype:
    return torch.uint8 if key.kind == "image" else torch.float32
