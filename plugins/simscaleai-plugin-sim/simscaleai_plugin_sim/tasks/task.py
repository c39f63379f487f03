"""What a task is: bodies in the world, where they start, what is seen, and when it is done.

N: slots, K: slots that an episode begins in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from simscaleai_plugin_sim.simulation import ArmSimulation, Slots

Array = NDArray[np.float64]
Observation = dict[str, NDArray[np.generic]]


class Task(Protocol):
    """One thing to do with the arm. A task keeps no state: everything is in the simulation."""

    name: ClassVar[str]
    """Name as the user types it."""
    env_id: ClassVar[str]
    """Id in Gymnasium's registry."""
    max_episode_steps: ClassVar[int]
    """Control steps after which an episode is cut off [steps]."""

    def bodies(self) -> str:
        """Return the MJCF bodies that the task adds to the world."""
        ...

    def spaces(self) -> dict[str, Box]:
        """Return the spaces of the observation keys that the task adds to the arm's own."""
        ...

    def place(
        self, arms: ArmSimulation, slots: Slots, generators: Sequence[np.random.Generator]
    ) -> None:
        """Set up an episode in each of the slots `[K]` from that slot's own generator.

        Args:
            arms: The simulation, with the arms of these slots at home.
            slots: Slots that an episode begins in `[K]`.
            generators: One random generator per slot in `slots`, in the same order.
        """
        ...

    def observe(self, arms: ArmSimulation) -> Observation:
        """Return the observation keys that the task adds, each `[N, ...]`."""
        ...

    def judge(self, observation: Mapping[str, Array]) -> tuple[Array, NDArray[np.bool_]]:
        """Return reward `[N]` and whether the task is done `[N]`."""
        ...

    @staticmethod
    def expert(observation: Mapping[str, Array]) -> Array:
        """Return the scripted expert's actions `[N, 4]`, a function of the observation alone."""
        ...
