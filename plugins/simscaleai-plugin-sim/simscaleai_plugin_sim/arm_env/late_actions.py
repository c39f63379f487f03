"""Actions that are executed some steps after they were given.

N: environments, K: environments that an episode begins in.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simscaleai_plugin_sim.physics.simulation import ACTION_DIM, EnvIds

Array = NDArray[np.float64]

_REST = np.array([0.0, 0.0, 0.0, 1.0])  # stay, with the gripper open, as an episode begins


class LateActions:
    """The actions of N environments that are on their way.

    Args:
        num_envs: Number of environments.
        longest: Longest delay [steps].
    """

    def __init__(self, num_envs: int, longest: int) -> None:
        self._sent: Array = np.zeros((longest + 1, num_envs, ACTION_DIM))
        self._delay: NDArray[np.intp] = np.zeros(num_envs, dtype=np.intp)

    def begin(self, env_ids: EnvIds, delay: NDArray[np.intp]) -> None:
        """Forget what is on its way in environments `[K]`, whose episodes begin.

        Args:
            env_ids: The environments `[K]`.
            delay: Their delays `[K]` [steps].
        """
        self._sent[:, env_ids] = _REST
        self._delay[env_ids] = delay

    def executed(self, actions: Array) -> Array:
        """Return what is executed when `actions` are given, both `[N, 4]`."""
        self._sent = np.roll(self._sent, 1, axis=0)
        self._sent[0] = actions
        return self._sent[self._delay, np.arange(len(actions))]
