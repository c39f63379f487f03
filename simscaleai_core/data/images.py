"""Frames by row: from memory as far as it is granted, from the data where it is not.

Rows count timesteps over all chosen episodes, as in the packed matrix. Images are uint8, channels
first, and become float32 where they are used; depth is float32 in the units of the data.

R: rows that are asked for, N: rows of all chosen episodes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from attrs import define, field
from torch import Tensor

from simscaleai_core.data.location import Location
from simscaleai_core.data.progress import told
from simscaleai_core.data.shared import SharedBytes, shared_bytes
from simscaleai_core.data.source import EpisodeSource, Key

logger = logging.getLogger("simscaleai")

Rows = npt.NDArray[np.int64]
Frames = npt.NDArray[Any]

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
    _bytes: SharedBytes | Tensor | None = field(default=None, init=False)
    _num_filled: int = field(default=0, init=False)

    @property
    def in_memory(self) -> bool:
        """Whether nothing is read from the data any more."""
        return not self.keys or self._num_held == int(self.offsets[-1])

    def fill(self, budget_gib: float) -> None:
        """Hold the frames of the first episodes, as many as fit; one rank of a host reads them.

        Args:
            budget_gib: Largest total size of what is held [GiB].
        """
        row_bytes = sum(k.width * _dtype(k).itemsize for k in self.keys.values())
        if not row_bytes:
            return
        total = int(self.offsets[-1])
        fitting = int(min(total, budget_gib * 2**30 / row_bytes))
        count = int(np.searchsorted(self.offsets, fitting, side="right")) - 1
        self._num_filled = rows = int(self.offsets[count])
        if rows:
            identity = (self.source.path, list(self.positions[:count]), sorted(self.keys.items()))
            self._bytes = shared_bytes(rows * row_bytes, identity, partial(self._fill, count))
        if budget_gib:
            rest = "" if rows == total else f"; the others are read from {self.source.path}"
            logger.info(
                "%s of %s frames are held in memory (%.2f of %.2f GiB, cache_images_gib=%g)%s",
                f"{rows:,}", f"{total:,}", rows * row_bytes / 2**30, total * row_bytes / 2**30,
                budget_gib, rest,
            )  # fmt: skip

    def gather(self, name: str, rows: Tensor) -> Tensor:
        """Return frames for rows, in any order; each is read once.

        Args:
            name: Name of the key in samples.
            rows: Rows, int64 `[R]`.

        Returns:
            Images uint8, or depth float32, `[R, C, H, W]`.
        """
        key = self.keys[name]
        # NumPy asks for huge pages: torch's own memory takes six times as long to be touched first
        frames = np.empty((len(rows), *key.shape), _dtype(key))
        if self.in_memory:
            all_frames = torch.from_numpy(self._held(name))
            return torch.index_select(all_frames, 0, rows, out=torch.from_numpy(frames))
        needed, places, inverse = np.unique(rows.numpy(), return_index=True, return_inverse=True)
        count = int(np.searchsorted(needed, self._num_held))
        held = self._held(name) if count else frames
        for row, place in zip(needed[:count].tolist(), places.tolist(), strict=False):
            frames[place] = held[row]
        if count < len(needed):
            self._read(name, needed[count:], frames, places[count:])
        again = np.flatnonzero(places[inverse] != np.arange(len(rows)))
        frames[again] = frames[places[inverse[again]]]
        return torch.from_numpy(frames)

    def _read(self, name: str, rows: Rows, frames: Frames, places: Rows) -> None:
        """Read sorted rows, episode by episode, each to its place among the frames."""
        episodes = np.searchsorted(self.offsets, rows, side="right") - 1
        take = getattr(self.source, "take", None) or self._take
        first = np.flatnonzero(np.diff(episodes, prepend=-1))
        for begin, end in zip(first, [*first[1:], len(rows)], strict=True):
            number = int(episodes[begin])
            timesteps = rows[begin:end] - self.offsets[number]
            values = take(self.positions[number], self.keys[name].name, timesteps)
            found = self._converted(name, number, values, int(end - begin))
            for place, frame in zip(places[begin:end].tolist(), found, strict=True):
                frames[place] = frame

    def _take(self, episode: int, key: str, timesteps: Rows) -> npt.NDArray[Any]:
        """Read sorted timesteps of one episode, neighbours together."""
        spans = np.split(timesteps, np.flatnonzero(np.diff(timesteps) > 1) + 1)
        parts = [self.source.read(episode, key, int(s[0]), int(s[-1]) + 1) for s in spans]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _fill(self, count: int, values: Tensor) -> None:
        """Read the first `count` episodes into bytes, uint8 `[S]`."""
        for number in told(range(count), "episodes with images", count):
            row, end = self.offsets[number : number + 2].tolist()
            for name in self.keys:
                frames = self._view(name, values)
                steps = max(1, _BLOCK_BYTES // frames[0].nbytes)
                for start in range(row, end, steps):
                    rows = np.arange(start, min(start + steps, end))
                    self._read(name, rows, frames, rows)

    @property
    def _num_held(self) -> int:
        return 0 if self._bytes is None else self._num_filled

    def _held(self, name: str) -> Frames:
        """Return the frames of a key that are held, `[R, C, H, W]`."""
        values = self._bytes.values if isinstance(self._bytes, SharedBytes) else self._bytes
        return self._view(name, cast("Tensor", values))

    def _view(self, name: str, values: Tensor) -> Frames:
        """View bytes, uint8 `[S]`, as the frames of a key; the keys follow one another."""
        start = 0
        for other, key in sorted(self.keys.items(), key=lambda pair: pair[1].kind):  # floats first
            stop = start + self._num_filled * key.width * _dtype(key).itemsize
            if other == name:
                break
            start = stop
        return values.numpy()[start:stop].view(_dtype(key)).reshape(-1, *key.shape)

    def _converted(self, name: str, place: int, values: npt.NDArray[Any], expected: int) -> Frames:
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
            return values.astype(np.float32)[:, None]
        return values.transpose(0, 3, 1, 2)


def _dtype(key: Key) -> np.dtype[Any]:
    return np.dtype(np.uint8 if key.kind == "image" else np.float32)
