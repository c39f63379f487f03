"""Executing chunks of actions: receding horizon and temporal ensembling, slot by slot.

N: slots, M: slots that need a new chunk, T: timesteps of a chunk, A: dimensions of an action.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simscaleai_core.errors import ConfigError
from simscaleai_core.seeding import stream_seed

Plan = Callable[[NDArray[np.intp], NDArray[np.int64]], Any]

_NOISE_SEED = 0


class ChunkExecutor:
    """Turns chunks into one action per step for any number of slots.

    Each slot has its own plan. A new chunk is asked for only in slots that have executed `execute`
    steps of their last one. With ensembling, the chunks that cover a step are averaged, chunk i of
    them (0 is the oldest) with the weight exp(-m i).

    The plans live on the host. There are as many slots as the largest batch seen; a single
    observation is slot 0.

    Args:
        execute: Steps of a chunk that are executed before the next is asked for; None: the whole
            chunk, or 1 with ensembling.
        ensemble: The coefficient m of temporal ensembling; None: only the newest chunk counts.

    Raises:
        ConfigError: If a number is out of range.

    Source:
        Zhao et al. 2023 (ACT, arXiv:2304.13705), section IV-B and algorithm 2, here as a running
        weighted mean; receding horizon as in Chi et al. 2023 (arXiv:2303.04137), section III-B.

    Example:
        >>> executor = ChunkExecutor(execute=2)
        >>> plan = lambda slots, indices: np.stack([np.arange(3.0) + 10 * i for i in indices])[..., None]
        >>> [float(executor.act(1, plan)[0, 0]) for _ in range(5)]
        [0.0, 1.0, 10.0, 11.0, 20.0]
    """  # noqa: E501

    def __init__(self, execute: int | None = None, ensemble: float | None = None) -> None:
        if execute is not None and execute < 1:
            raise ConfigError(f"execute: expected at least 1 step or nothing, got {execute!r}")
        if ensemble is not None and not math.isfinite(ensemble):
            raise ConfigError(f"ensemble: expected a finite number or nothing, got {ensemble!r}")
        self.execute = execute
        self.ensemble = ensemble
        self._plans: NDArray[np.float32] = np.zeros((0, 0, 0), dtype=np.float32)
        self._merged: NDArray[np.int64] = np.zeros((0, 0), dtype=np.int64)
        self._age: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._index: NDArray[np.int64] = np.zeros(0, dtype=np.int64)

    @property
    def num_slots(self) -> int:
        """Number of slots seen so far."""
        return len(self._index)

    def reset(self, mask: Sequence[bool] | NDArray[np.bool_] | Tensor | None = None) -> None:
        """Forget the plans.

        Args:
            mask: Slots to forget, bool `[N]`; None forgets all of them.
        """
        if mask is None:
            chosen = np.ones(self.num_slots, dtype=np.bool_)
        else:
            chosen = np.asarray(mask.cpu() if isinstance(mask, Tensor) else mask, dtype=np.bool_)
            chosen = np.atleast_1d(chosen)[: self.num_slots]  # slots never seen have no plan
        for kept in (self._merged, self._age, self._index):
            kept[: len(chosen)][chosen] = 0

    def act(self, num_slots: int, plan: Plan) -> NDArray[np.float32]:
        """Return the next action of every slot.

        Args:
            num_slots: Number of slots N that act now: the first N.
            plan: Called with the slots that need a chunk, int `[M]`, and how many chunks each has
                had since its reset, int `[M]`; returns chunks `[M, T, A]`. Not called if M is 0.

        Returns:
            Actions `[N, A]`.
        """
        self._grow(num_slots)
        due = self._age[:num_slots] >= (self.execute or self._default_execute())
        due |= self._merged[:num_slots, 0] == 0 if self._merged.shape[1] else True
        slots = np.flatnonzero(due)
        if len(slots):
            self._merge(slots, _as_numpy(plan(slots, self._index[slots].copy())))
        actions = self._plans[:num_slots, 0].copy()
        self._advance(num_slots)
        return actions

    def _default_execute(self) -> float:
        return math.inf if self.ensemble is None else 1

    def _grow(self, num_slots: int) -> None:
        more = num_slots - self.num_slots
        if more > 0:
            self._plans = np.pad(self._plans, ((0, more), (0, 0), (0, 0)))
            self._merged = np.pad(self._merged, ((0, more), (0, 0)))
            self._age = np.pad(self._age, (0, more))
            self._index = np.pad(self._index, (0, more))

    def _merge(self, slots: NDArray[np.intp], chunks: NDArray[np.float32]) -> None:
        """Put new chunks into the plans of some slots."""
        if self._plans.shape[1:] != chunks.shape[1:]:
            self._plans = np.zeros((self.num_slots, *chunks.shape[1:]), dtype=np.float32)
            self._merged = np.zeros((self.num_slots, chunks.shape[1]), dtype=np.int64)
        if self.ensemble is None:
            self._plans[slots] = chunks
            self._merged[slots] = 1
        else:
            merged = self._merged[slots]
            powers = np.exp(-self.ensemble * np.arange(merged.max() + 1))
            before = np.concatenate([[0.0], np.cumsum(powers)])[merged][..., None]
            newest = powers[merged][..., None]
            mean = (self._plans[slots] * before + chunks * newest) / (before + newest)
            self._plans[slots] = mean.astype(np.float32)
            self._merged[slots] = merged + 1
        self._age[slots] = 0
        self._index[slots] += 1

    def _advance(self, num_slots: int) -> None:
        """Move the plans on by one step."""
        self._plans[:num_slots, :-1] = self._plans[:num_slots, 1:].copy()
        self._merged[:num_slots, :-1] = self._merged[:num_slots, 1:].copy()
        self._merged[:num_slots, -1] = 0
        self._age[:num_slots] += 1


def chunk_noise(shape: tuple[int, ...], indices: Sequence[int] | NDArray[np.int64]) -> Tensor:
    """Return the noise that chunks are sampled from.

    It depends on nothing but the shape and how many chunks the slot has had since its reset, so an
    episode does not depend on the number of slots, on the device or on what else draws.

    Args:
        shape: Shape of one chunk's noise, such as ``(T, A)``.
        indices: Chunks since the reset, of each slot `[M]`.

    Returns:
        Standard normal noise `[M, *shape]` on the CPU.
    """
    return torch.stack([_noise(tuple(shape), int(i)) for i in indices])


@lru_cache(maxsize=4096)
def _noise(shape: tuple[int, ...], index: int) -> Tensor:
    generator = torch.Generator().manual_seed(stream_seed(_NOISE_SEED, "chunk", index))
    return torch.randn(shape, generator=generator)


def _as_numpy(chunks: Any) -> NDArray[np.float32]:
    if isinstance(chunks, Tensor):
        chunks = chunks.detach().float().cpu().numpy()
    return np.asarray(chunks, dtype=np.float32)
