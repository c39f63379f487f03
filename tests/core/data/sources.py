"""Episodes in memory whose every number says which episode and timestep it is of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from attrs import define, field

from simscaleai_core.data.source import ACTIONS, Episode, Key

_ACTIONS = Key(name=ACTIONS, shape=(3,))
KEYS = (
    Key(name="image", shape=(3, 8, 8), kind="image", dtype="uint8"),
    Key(name="pose", shape=(2, 2)),
    Key(name="q", shape=(2,)),
    Key(name="depth", shape=(1, 8, 8), kind="depth", dtype="uint16"),
)


@define
class CountingSource:
    """Every number of episode e at timestep t is ``20 * e + t``; episode e has ``4 + e`` steps."""

    path: Path = Path("counting")
    num_episodes: int = 5
    observations: tuple[Key, ...] = KEYS
    actions: Key = _ACTIONS
    reads: list[tuple[int, str, int, int]] = field(factory=list)
    env: str | None = None

    @property
    def episodes(self) -> list[Episode]:
        """Every second one is a success and of the part ``train``; two instructions each."""
        return [
            Episode(
                name=f"demo_{e}",
                length=4 + e,
                instructions=("reach", "go there"),
                success=e % 2 == 0,
                filter_keys=frozenset({"train"} if e % 2 == 0 else {"valid"}),
            )
            for e in range(self.num_episodes)
        ]

    def read(self, episode: int, key: str, start: int, stop: int) -> npt.NDArray[Any]:
        """Return the numbers, and note what was read."""
        self.reads.append((episode, key, start, stop))
        shape, dtype = {
            "image": ((8, 8, 3), np.uint8), "depth": ((8, 8), np.uint16), "q": ((2,), np.float64),
            "pose": ((2, 2), np.float32), ACTIONS: ((3,), np.float64),
        }[key]  # fmt: skip
        numbers = np.arange(start, stop) + 20 * episode
        ones = np.ones((1, *shape), dtype=dtype)
        return (numbers.reshape(-1, *[1] * len(shape)) * ones).astype(dtype)
