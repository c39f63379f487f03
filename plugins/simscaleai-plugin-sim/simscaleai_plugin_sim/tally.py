"""What the episodes of an evaluation came to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from simscaleai_plugin_sim.intervals import wilson
from simscaleai_plugin_sim.rollouts import Step
from simscaleai_plugin_sim.success import SuccessReader


class Tally:
    """Results per episode, gathered step by step.

    Args:
        seeds: Seed of each episode.
        reader: Finds out whether an episode succeeded.
    """

    def __init__(self, seeds: Sequence[int], reader: SuccessReader) -> None:
        self._seeds = seeds
        self._reader = reader
        n = len(seeds)
        self._once = np.zeros(n, dtype=np.bool_)
        self._at_end = np.zeros(n, dtype=np.bool_)
        self._reported = np.zeros(n, dtype=np.bool_)
        self._returns = np.zeros(n)
        self._lengths = np.zeros(n, dtype=np.int64)

    def count(self, step: Step) -> None:
        """Add one step of every slot that runs an episode.

        Raises:
            ConfigError: If an episode ended and its success was never reported.
        """
        success, reported = self._reader.read(step.transition)
        running = step.turn.episode >= 0
        episode = step.turn.episode[running]
        self._once[episode] |= success[running]
        self._reported[episode] |= reported[running]
        self._returns[episode] += step.transition.reward[running]
        self._lengths[episode] += 1
        ended = step.turn.episode[step.ended]
        if not self._reported[ended].all():
            raise self._reader.missing()
        self._at_end[ended] = success[step.ended]

    def results(self) -> dict[str, Any]:
        """Return the results as plain numbers and lists."""
        n = len(self._seeds)
        return {
            "success_rate": float(self._once.mean()),
            "success_rate_ci95": list(wilson(int(self._once.sum()), n)),
            "success_at_end_rate": float(self._at_end.mean()),
            "n_episodes": n,
            "mean_return": float(self._returns.mean()),
            "mean_length": float(self._lengths.mean()),
            "seeds": list(self._seeds),
            "successes": self._once.tolist(),
            "returns": self._returns.tolist(),
            "lengths": self._lengths.tolist(),
            "env_steps": int(self._lengths.sum()),
        }
