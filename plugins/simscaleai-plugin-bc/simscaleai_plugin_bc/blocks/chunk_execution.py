"""Executing chunks of actions: receding horizon and temporal ensembling.

N: sub-environments, M: sub-environments that need a new chunk, T: timesteps of a chunk,
A: dimensions of an action.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from simscaleai_core.errors import ConfigError

PredictChunks = Callable[[NDArray[np.intp], NDArray[np.int64]], Any]
"""From env indices, int `[M]`, and chunks predicted for each so far, int `[M]`, to chunks
`[M, T, A]`."""


class ChunkExecutor:
    """Turns chunks into one action per step for any number of sub-environments.

    Each sub-environment executes its own chunk. A new one is predicted only for those that have
    executed `execute` steps of their last one. With ensembling, the chunks that cover a step are
    averaged, chunk i of them (0 is the oldest) with the weight exp(-m i).

    The chunks stay on the host. There are as many sub-environments as the largest batch so far; a
    single observation is that of sub-environment 0.

    Args:
        execute: Steps of a chunk that are executed before the next is predicted; None: the whole
            chunk, or 1 with ensembling.
        ensemble: The coefficient m of temporal ensembling; None: only the newest chunk counts.

    Raises:
        ConfigError: If a number is out of range.

    Source:
        Zhao et al. 2023 (ACT, arXiv:2304.13705), section IV-B and algorithm 2, here as a running
        weighted mean; receding horizon as in Chi et al. 2023 (arXiv:2303.04137), section III-B.

    Example:
        >>> executor = ChunkExecutor(execute=2)
        >>> predict = lambda envs, counts: np.stack([np.arange(3.0) + 10 * n for n in counts])[..., None]
        >>> [float(executor.act(1, predict)[0, 0]) for _ in range(5)]
        [0.0, 1.0, 10.0, 11.0, 20.0]
    """  # noqa: E501

    def __init__(self, execute: int | None = None, ensemble: float | None = None) -> None:
        if execute is not None and execute < 1:
            raise ConfigError(f"execute: expected at least 1 step or nothing, got {execute!r}")
        if ensemble is not None and not math.isfinite(ensemble):
            raise ConfigError(f"ensemble: expected a finite number or nothing, got {ensemble!r}")
        self.execute = execute
        self.ensemble = ensemble
        self._actions: NDArray[np.float32] = np.zeros((0, 0, 0), dtype=np.float32)
        self._num_merged: NDArray[np.int64] = np.zeros((0, 0), dtype=np.int64)
        self._age: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._num_chunks: NDArray[np.int64] = np.zeros(0, dtype=np.int64)

    @property
    def num_envs(self) -> int:
        """Number of sub-environments so far."""
        return len(self._num_chunks)

    def reset(self, mask: Sequence[bool] | NDArray[np.bool_] | Tensor | None = None) -> None:
        """Begin episodes: forget the chunks, and how many there were.

        Args:
            mask: Sub-environments whose episodes begin, bool `[N]`; None means all.
        """
        self.forget(mask)
        chosen = reset_mask(mask, self.num_envs)
        self._num_chunks[: len(chosen)][chosen] = 0

    def forget(self, mask: Sequence[bool] | NDArray[np.bool_] | Tensor | None = None) -> None:
        """Forget the chunks, so that the next step needs another one of the same episode.

        Args:
            mask: Sub-environments whose chunks are forgotten, bool `[N]`; None means all.
        """
        chosen = reset_mask(mask, self.num_envs)
        for state in (self._num_merged, self._age):
            state[: len(chosen)][chosen] = 0

    def rest(self, envs: NDArray[np.intp]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return what is left of the chunks of some sub-environments, moved to the present step.

        Args:
            envs: Sub-environments, int `[M]`.

        Returns:
            Chunks `[M, T, A]`, the last action repeated to their end, and the steps that are left
            of each, int `[M]`: 0 where there is nothing.
        """
        return self._actions[envs], self._num_merged[envs].astype(np.bool_).sum(axis=1)

    def act(self, num_envs: int, predict: PredictChunks) -> NDArray[np.float32]:
        """Return the next action of every sub-environment.

        Args:
            num_envs: Number of sub-environments N that act now: the first N.
            predict: Called with the sub-environments that need a chunk, int `[M]`, and how many
                chunks each has had since its reset, int `[M]`; returns chunks `[M, T, A]`. Not
                called if M is 0.

        Returns:
            Actions `[N, A]`.
        """
        self._grow(num_envs)
        is_executed = self._age[:num_envs] >= (self.execute or self._default_execute())
        is_empty = ~self._num_merged[:num_envs, :1].any(axis=1)
        envs = np.flatnonzero(is_executed | is_empty)
        if len(envs):
            self._merge(envs, _as_numpy(predict(envs, self._num_chunks[envs].copy())))
        actions = self._actions[:num_envs, 0].copy()
        self._advance(num_envs)
        return actions

    def _default_execute(self) -> float:
        return math.inf if self.ensemble is None else 1

    def _grow(self, num_envs: int) -> None:
        more = num_envs - self.num_envs
        if more > 0:
            self._actions = np.pad(self._actions, ((0, more), (0, 0), (0, 0)))
            self._num_merged = np.pad(self._num_merged, ((0, more), (0, 0)))
            self._age = np.pad(self._age, (0, more))
            self._num_chunks = np.pad(self._num_chunks, (0, more))

    def _merge(self, envs: NDArray[np.intp], chunks: NDArray[np.float32]) -> None:
        """Merge new chunks `[M, T, A]` into the remaining actions of some sub-environments."""
        if self._actions.shape[1:] != chunks.shape[1:]:
            self._actions = np.zeros((self.num_envs, *chunks.shape[1:]), dtype=np.float32)
            self._num_merged = np.zeros((self.num_envs, chunks.shape[1]), dtype=np.int64)
        if self.ensemble is None:
            self._actions[envs] = chunks
            self._num_merged[envs] = 1
        else:
            merged = self._num_merged[envs]
            powers = np.exp(-self.ensemble * np.arange(merged.max() + 1))
            before = np.concatenate([[0.0], np.cumsum(powers)])[merged][..., None]
            newest = powers[merged][..., None]
            mean = (self._actions[envs] * before + chunks * newest) / (before + newest)
            self._actions[envs] = mean.astype(np.float32)
            self._num_merged[envs] = merged + 1
        self._age[envs] = 0
        self._num_chunks[envs] += 1

    def _advance(self, num_envs: int) -> None:
        """Drop the actions of the step that was just executed."""
        self._actions[:num_envs, :-1] = self._actions[:num_envs, 1:].copy()
        self._num_merged[:num_envs, :-1] = self._num_merged[:num_envs, 1:].copy()
        self._num_merged[:num_envs, -1] = 0
        self._age[:num_envs] += 1


def reset_mask(
    mask: Sequence[bool] | NDArray[np.bool_] | Tensor | None, num_envs: int
) -> NDArray[np.bool_]:
    """Return which of the known sub-environments begin a new episode.

    Args:
        mask: Bool `[N]`, of any length; None means all.
        num_envs: Sub-environments that have a state; those beyond have nothing to reset.

    Returns:
        Bool, at most `[num_envs]`; what is missing at the end is not reset.
    """
    if mask is None:
        return np.ones(num_envs, dtype=np.bool_)
    chosen = np.asarray(mask.cpu() if isinstance(mask, Tensor) else mask, dtype=np.bool_)
    return np.atleast_1d(chosen)[:num_envs]


def _as_numpy(chunks: Any) -> NDArray[np.float32]:
    if isinstance(chunks, Tensor):
        chunks = chunks.detach().float().cpu().numpy()
    return np.asarray(chunks, dtype=np.float32)
