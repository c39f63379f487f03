"""Whether an environment's episodes follow from the seeds that it is given.

Results are the same for any number of environments only if an episode's first state follows from
its seed. Meta-World, for one, takes the next task of a list at every reset, whatever the seed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np

from simscaleai_plugin_gym.envs.adapter import EnvAdapter, select

logger = logging.getLogger("simscaleai")


class SeedCheck:
    """Compares the first observation of the first episode with that of a reset afterwards.

    Args:
        adapter: Where the episodes run.
        seed: Seed of the first episode.
    """

    def __init__(self, adapter: EnvAdapter, seed: int) -> None:
        self._adapter = adapter
        self._seed = seed
        self._first: Any = None

    def remember(self, observation: Any) -> None:
        """Keep the first environment's observation, when it is called for the first time."""
        if self._first is None:
            self._first = deepcopy(self._of_first(observation))

    def is_reproducible(self) -> bool:
        """Reset the first episode again and return whether it begins in the same way."""
        mask = np.zeros(self._adapter.num_envs, dtype=np.bool_)
        mask[0] = True
        observation, _ = self._adapter.reset([self._seed] * len(mask), mask)
        reproducible = _is_equal(self._first, self._of_first(observation))
        if not reproducible:
            logger.warning(
                "environment %r does not obey seeds: two resets with seed %d differ. Results "
                "depend on the number of environments, and comparisons are not paired.",
                self._adapter.name,
                self._seed,
            )
        return reproducible

    def _of_first(self, observation: Any) -> Any:
        return select(observation, 0) if self._adapter.is_batched else observation


def _is_equal(one: Any, other: Any) -> bool:
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_is_equal(one[k], other[k]) for k in one)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_is_equal, one, other))
    a, b = np.asarray(one), np.asarray(other)
    return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f" and b.dtype.kind == "f"))
