"""Push: move a cube over the table to a goal, without lifting it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from simscaleai_plugin_sim.physics.arm import READY_RAD
from simscaleai_plugin_sim.physics.simulation import ACTION_SCALE_M, ArmSimulation, EnvIds
from simscaleai_plugin_sim.tasks.cube import REST_M, CubeTask, draw_apart, reward_cube, yaw_quat

Array = NDArray[np.float64]

AREA_LOW_M = np.array([0.38, -0.20])
AREA_HIGH_M = np.array([0.60, 0.20])
"""Corners of the rectangle that cube and goal are drawn from, base frame [m]."""
MIN_DISTANCE_M, MAX_DISTANCE_M = 0.12, 0.30
"""Minimum and maximum distance of the goal from the cube's start [m]."""
TOLERANCE_M = 0.03
"""Horizontal distance from the goal within which the cube must come [m]."""
YAW_RAD = np.pi / 4
"""Largest rotation of the cube at the start: a cube looks the same after a quarter turn [rad]."""

PUSH_HEIGHT_M = 0.02
"""Height of the tool at which the expert pushes; lower, the pads would press on the table [m]."""
BEHIND_M = 0.06
"""How far behind the cube's centre the expert comes down [m]."""
CONTACT_M = 0.03
"""Distance from the cube's centre at which the tool touches it; nearer is over the cube [m]."""
HOVER_M = 0.07
"""Maximum that the expert rises when it is not behind the cube; clears the cube [m]."""
SPEED_M = 0.015
"""Advance asked for in one step of pushing; faster, the cube slides ahead of the tool [m]."""
HORIZONTAL_GAIN = 0.6
VERTICAL_GAIN = 0.4
"""Fractions of the way that the expert asks for in one step when it does not push."""


class Push(CubeTask):
    """Push a cube over the table to within 3 cm of a goal."""

    name: ClassVar[str] = "push"
    env_id: ClassVar[str] = "SimScale/Push-v0"
    max_episode_steps: ClassVar[int] = 80

    def place(
        self, arms: ArmSimulation, env_ids: EnvIds, generators: Sequence[np.random.Generator]
    ) -> None:
        """Put the cube on the table and draw a goal, as in `Task.place`."""
        start, goal = draw_apart(
            generators, AREA_LOW_M, AREA_HIGH_M, min_m=MIN_DISTANCE_M, max_m=MAX_DISTANCE_M
        )
        yaw = np.array([generator.uniform(-YAW_RAD, YAW_RAD) for generator in generators])
        arms.place_marker(env_ids, np.insert(goal, 2, REST_M, axis=1))
        arms.pose(env_ids, READY_RAD)
        arms.place_object(env_ids, np.insert(start, 2, REST_M, axis=1), yaw_quat(yaw))

    def judge(self, observation: Mapping[str, Array]) -> tuple[Array, NDArray[np.bool_]]:
        """Return the reward and whether the cube is at the goal.

        The reward is 1 for success, less the tool's distance from the cube and the cube's from its
        goal [m].

        Args:
            observation: Batched observation, each key `[N, ...]`.

        Returns:
            Reward `[N]` and success `[N]`.

        Source:
            Ours.
        """
        offset = observation["target_rel_pos"]
        success = np.hypot(offset[:, 0], offset[:, 1]) < TOLERANCE_M
        return reward_cube(observation, success), success

    @staticmethod
    def expert(observation: Mapping[str, Array]) -> Array:
        """Come down behind the cube and push; rise and come back when the tool has slipped aside.

        One formula without phases: how ready the tool is to push blends between going to the place
        behind the cube and advancing, so that every action changes gradually with what is observed.

        Args:
            observation: Batched observation, each key `[N, ...]`.

        Returns:
            Actions `[N, 4]` [unitless, -1 to 1].

        Source:
            Ours.
        """
        carry, tool = observation["target_rel_pos"], -observation["object_rel_pos"]
        distance = np.hypot(carry[:, 0], carry[:, 1])
        ahead = carry[:, :2] / np.maximum(distance, 0.01)[:, None]
        aside = np.stack([-ahead[:, 1], ahead[:, 0]], axis=-1)
        # The tool seen from the cube: along the way to the goal, across it, above the push.
        along, across = (tool[:, :2] * ahead).sum(axis=-1), (tool[:, :2] * aside).sum(axis=-1)
        above = tool[:, 2] + REST_M - PUSH_HEIGHT_M
        error = np.hypot(across, np.maximum(along + CONTACT_M, 0.0))
        rise = np.clip(4.0 * (error - 0.018), 0.0, HOVER_M)
        ready = _ramp(np.abs(across), 0.01, 0.02) * _ramp(above, 0.01, 0.02)
        ready *= _ramp(along, -0.025, -0.01)
        approach = HORIZONTAL_GAIN * (-BEHIND_M - along)
        advance = approach + ready * (np.minimum(distance, SPEED_M) - approach)
        offset = advance[:, None] * ahead - HORIZONTAL_GAIN * across[:, None] * aside
        actions = np.full((len(offset), 4), -1.0)
        actions[:, :2] = np.clip(offset / ACTION_SCALE_M, -1.0, 1.0)
        actions[:, 2] = np.clip(VERTICAL_GAIN * (rise - above) / ACTION_SCALE_M, -1.0, 1.0)
        return actions


def _ramp(value: Array, full: float, none: float) -> Array:
    """Return 1 up to `full`, 0 from `none` on, and a straight line between them, `[N]`."""
    return np.clip((none - value) / (none - full), 0.0, 1.0)
