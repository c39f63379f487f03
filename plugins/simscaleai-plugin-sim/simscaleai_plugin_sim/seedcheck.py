"""Whether an environment obeys the seeds that it is given.

Results are the same for any number of slots only if an episode's first state follows from its seed.
Meta-World, for one, takes the next task of a list at every reset, whatever the seed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np

from simscaleai_plugin_sim.slots import Slots

logger = logging.getLogger("simscaleai")


class SeedCheck:
    """Compares the first observation of the first episode with that of a reset afterwards.

    Args:
        slots: Where the episodes run.
        seed: Seed of the first episode.
    """

    def __init__(self, slots: Slots, seed: int) -> None:
        self._slots = slots
        self._seed = seed
        self._first: Any = None

    def remember(self, observation: Any) -> None:
        """Keep the first observation of slot 0, when it is called for the first time."""
        if self._first is None:
            self._first = deepcopy(self._of_slot_0(observation))

    def is_obeyed(self) -> bool:
        """Reset slot 0 to the first episode again and return whether it begins in the same way."""
        mask = np.zeros(self._slots.num_slots, dtype=np.bool_)
        mask[0] = True
        observation, _ = self._slots.reset([self._seed] * len(mask), mask)
        obeyed = _is_equal(self._first, self._of_slot_0(observation))
        if not obeyed:
            logger.warning(
                "environment %r does not obey seeds: two resets with seed %d differ. Results "
                "depend on the number of environments, and comparisons are not paired.",
                self._slots.name,
                self._seed,
            )
        return obeyed

    def _of_slot_0(self, observation: Any) -> Any:
        return _cut(observation) if self._slots.is_batched else observation


def _cut(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _cut(entry) for key, entry in value.items()}
    return tuple(_cut(entry) for entry in value) if isinstance(value, tuple) else value[0]


def _is_equal(one: Any, other: Any) -> bool:
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_is_equal(one[k], other[k]) for k in one)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_is_equal, one, other))
    a, b = np.asarray(one), np.asarray(other)
    return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f" and b.dtype.kind == "f"))
