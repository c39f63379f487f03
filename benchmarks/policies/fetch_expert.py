"""A scripted controller for Gymnasium-Robotics' FetchReach: go straight to the goal.

For ``simscale record --env gymnasium_robotics:FetchReach-v4 --expert fetch_expert:expert``, with
this folder on ``PYTHONPATH``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

GAIN_PER_M = 10.0
"""Action per distance to the goal [1/m]; saturates 10 cm away, lower than what overshoots."""


def expert(observation: Mapping[str, Array]) -> Array:
    """Return the proportional controller's actions.

    Args:
        observation: ``achieved_goal`` and ``desired_goal``, `[N, 3]` each [m].

    Returns:
        Actions `[N, 4]` [unitless, -1 to 1]: displacement, and a gripper that stays as it is.
    """
    error = observation["desired_goal"] - observation["achieved_goal"]
    motion = np.clip(GAIN_PER_M * error, -1.0, 1.0)
    return np.concatenate([motion, np.zeros_like(motion[..., :1])], axis=-1)
