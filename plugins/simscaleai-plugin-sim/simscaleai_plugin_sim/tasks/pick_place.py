"""Pick and place: take a cube from a pedestal by friction and put it down on a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from simscaleai_plugin_sim.physics.arm import READY_RAD
from simscaleai_plugin_sim.physics.simulation import ACTION_SCALE_M, ArmSimulation, EnvIds
from simscaleai_plugin_sim.tasks.cube import REST_M, CubeTask, draw_apart, reward_cube, yaw_quat

Array = NDArray[np.float64]

AREA_LOW_M = np.array([0.40, -0.20])
AREA_HIGH_M = np.array([0.60, 0.20])
"""Corners of the rectangle that cube and target are drawn from, base frame [m]."""
APART_M = 0.12
"""Minimum distance between the cube's start and its target [m]."""
PEDESTAL_M = 0.05
"""Height of the pedestal [m]; a cube that is pushed falls off it."""
YAW_RAD = 0.2
"""Largest rotation of the cube at the start [rad]; the fingers align it."""
TOLERANCE_M = 0.025
"""Horizontal distance from the target within which the cube must lie [m]."""
RESTING_M = 0.004
"""Height above the table's up to which the cube counts as lying on it [m]."""
OPEN_M = 0.05
"""Width from which the gripper counts as open; the cube is 0.04 wide [m]."""
SLOW_M_S = 0.05
"""Speed below which the cube counts as at rest [m/s]."""

HORIZONTAL_GAIN = 0.6
VERTICAL_GAIN = 0.4
"""Fractions of the way that the expert asks for in one step; faster, the momentum carries it past
the cube's middle."""
FUNNEL_M = 0.01
"""Horizontal distance from which the expert stays the higher the farther away it is [m]."""
HOVER_M = 0.08
"""Maximum that the expert stays above where it is going [m]."""
HALF_OPEN = 0.4
"""Gripper command beside the cube. The width then falls on the way down instead of in one step at
the end, which cloned networks took as the sign of carrying: 63 became 97% of 200 episodes."""
LOWEST_M = 0.015
"""Height of the tool below which the pads would press on the table and stick [m]."""


class PickPlace(CubeTask):
    """Take a cube from a pedestal and put it down within 2.5 cm of a target."""

    name: ClassVar[str] = "pick_place"
    env_id: ClassVar[str] = "SimScale/PickPlace-v0"
    max_episode_steps: ClassVar[int] = 80

    def bodies(self) -> str:
        """Return the target, the cube, and the pedestal as a second marker that is solid."""
        half = 0.5 * PEDESTAL_M
        return (
            super().bodies() + '<body name="pedestal" mocap="true">'
            f'<geom name="pedestal" type="box" size=".03 .03 {half}" pos="0 0 {half}" '
            'rgba=".65 .6 .5 1"/></body>'
        )

    def place(
        self, arms: ArmSimulation, env_ids: EnvIds, generators: Sequence[np.random.Generator]
    ) -> None:
        """Put the cube on its pedestal and draw a target, as in `Task.place`."""
        start, goal = draw_apart(generators, AREA_LOW_M, AREA_HIGH_M, min_m=APART_M, max_m=np.inf)
        yaw = np.array([generator.uniform(-YAW_RAD, YAW_RAD) for generator in generators])
        arms.place_marker(env_ids, _at_height(goal, REST_M))
        arms.place_marker(env_ids, _at_height(start, 0.0), index=1)
        arms.pose(env_ids, READY_RAD)
        arms.place_object(env_ids, _at_height(start, PEDESTAL_M + REST_M), yaw_quat(yaw))

    def privileged(self, arms: ArmSimulation) -> dict[str, NDArray[np.generic]]:
        """Return what only the judge knows: ``object_vel``, the cube's speed `[N, 3]` [m/s]."""
        return {"object_vel": arms.object_vel()[:, :3]}

    def judge(self, observation: Mapping[str, Array]) -> tuple[Array, NDArray[np.bool_]]:
        """Return the reward and whether the cube was put down.

        The reward is 1 for success, less the tool's distance from the cube and the cube's from its
        target [m]. Success asks for the cube to lie on the table within the tolerance, slow, with
        the gripper open.

        Args:
            observation: Batched observation, each key `[N, ...]`.

        Returns:
            Reward `[N]` and success `[N]`.

        Source:
            Ours.
        """
        offset, velocity = observation["target_rel_pos"], observation["object_vel"]
        success = np.hypot(offset[:, 0], offset[:, 1]) < TOLERANCE_M
        success &= np.abs(offset[:, 2]) < RESTING_M
        success &= observation["gripper_width"][:, 0] > OPEN_M
        success &= (velocity * velocity).sum(axis=-1) < SLOW_M_S**2
        return reward_cube(observation, success), success

    @staticmethod
    def expert(observation: Mapping[str, Array]) -> Array:
        """Come from above, close, carry over, come down, open.

        Two funnels, one over the cube and one over the target: how high the tool should be grows
        with the horizontal distance that is left, so that every action changes gradually with what
        is observed.

        Args:
            observation: Batched observation, each key `[N, ...]`.

        Returns:
            Actions `[N, 4]` [unitless, -1 to 1].

        Source:
            Ours.
        """
        reach, carry = observation["object_rel_pos"], observation["target_rel_pos"]
        reach_m, high_m = np.hypot(reach[:, 0], reach[:, 1]), np.abs(reach[:, 2])
        carry_m = np.hypot(carry[:, 0], carry[:, 1])
        width = observation["gripper_width"][:, 0]
        between = (reach_m < 0.02) & (high_m < 0.02)
        grasp = (reach_m < 0.01) & (high_m < 0.008) | between & (width < 0.06)
        held = between & (width < 0.043)
        placed = (carry_m < 0.015) & (carry[:, 2] > -0.006)
        carrying = _funnel(carry, carry_m, slope=2.0)
        # Up first: the cube must be clear of its pedestal.
        carrying[:, :2] *= np.clip(1.0 - (carrying[:, 2:] - 0.02) / 0.03, 0.0, 1.0)
        coming = np.where(placed[:, None], 0.0, _funnel(reach, reach_m, slope=4.0))
        offset = np.where(held[:, None], carrying, coming)
        offset *= [HORIZONTAL_GAIN, HORIZONTAL_GAIN, VERTICAL_GAIN]
        offset[:, 2] = np.maximum(offset[:, 2], LOWEST_M - observation["ee_pos"][:, 2])
        beside = np.clip((np.hypot(reach_m, high_m) - 0.012) / 0.04, 0.0, 1.0)
        opening = HALF_OPEN + (1.0 - HALF_OPEN) * beside
        actions = np.empty((len(offset), 4))
        actions[:, :3] = np.clip(offset / ACTION_SCALE_M, -1.0, 1.0)
        actions[:, 3] = np.where(placed, 1.0, np.where(grasp, -1.0, opening))
        return actions


def _funnel(offset: Array, distance: Array, *, slope: float) -> Array:
    """Return where to go `[N, 3]` [m]: above the end `offset`, unless straight over it."""
    raised = offset.copy()
    raised[:, 2] += np.clip(slope * (distance - FUNNEL_M), 0.0, HOVER_M)
    return raised


def _at_height(position: Array, height_m: float) -> Array:
    return np.column_stack([position, np.full(len(position), height_m)])
