"""The cube that tasks move: its shape, what is seen of it, and where it may start.

N: environments, K: environments that an episode begins in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from simscaleai_plugin_sim.physics.simulation import ArmSimulation
from simscaleai_plugin_sim.tasks.task import coordinates

Array = NDArray[np.float64]

CUBE_M = 0.04
"""Edge of the cube [m]."""
REST_M = 0.5 * CUBE_M
"""Height of the cube's centre when it lies on the table [m]."""
LIMIT_M = 3.0
"""Bound of the spaces of positions, beyond where a cube that was thrown comes to rest [m]."""
WIDTH_LIMIT_M = 0.1
"""Bound of the space of the gripper's width, beyond its stops [m]."""

# priority: the softer contact and friction of the cube hold against the table; against the finger
# pads, of the same priority, the larger friction holds. At 1, a push at mid-height tips the cube.
CUBE = (
    f'<body name="cube"><freejoint/><geom name="cube" type="box" size="{REST_M} {REST_M} {REST_M}" '
    'mass=".05" condim="4" friction=".6 .02 .0001" solref=".01 1" solimp=".95 .99 .001" '
    'priority="1" rgba=".15 .35 .85 1"/></body>'
)
"""MJCF of the cube: 50 g."""
TARGET = (
    '<body name="target" mocap="true"><geom type="cylinder" size=".03 .001" '
    f'pos="0 0 {-REST_M + 0.001}" contype="0" conaffinity="0" rgba=".85 .15 .12 1"/></body>'
)
"""MJCF of the target: a disc on the table that can be seen and not touched; its position is where
the cube's centre should come to rest."""

FLOOR = '<geom name="floor" type="plane" size="3 3 .1" pos="0 0 -.5" rgba="0 0 0 0"/>'
"""MJCF of a floor that is not drawn: a cube that falls off the table stays within the spaces."""


class CubeTask:
    """What tasks with one cube and one target have in common."""

    def bodies(self) -> str:
        """Return the target and the cube."""
        return f"{FLOOR}{TARGET}{CUBE}"

    def spaces(self) -> dict[str, Box]:
        """Return the spaces of the gripper's width, the cube and the target."""
        position = Box(-LIMIT_M, LIMIT_M, (3,), dtype=np.float64)
        return {
            "gripper_width": Box(-WIDTH_LIMIT_M, WIDTH_LIMIT_M, (1,), dtype=np.float64),
            "object_pos": position,
            "object_quat": Box(-1.0, 1.0, (4,), dtype=np.float64),
            "target_pos": position,
            "object_rel_pos": position,
            "target_rel_pos": position,
        }

    def observe(self, arms: ArmSimulation) -> dict[str, NDArray[np.generic]]:
        """Return what is seen of the cube and its target.

        Args:
            arms: The simulation, with the cube as object 0 and the target as marker 0.

        Returns:
            ``gripper_width`` `[N, 1]` [m], ``object_pos`` `[N, 3]` [m], ``object_quat`` `[N, 4]`
            (w, x, y, z) [unitless], ``target_pos`` `[N, 3]` [m]; and what a small network learns
            only slowly by itself, ``object_rel_pos`` (object - tool) and ``target_rel_pos``
            (target - object), both `[N, 3]` [m].
        """
        cube, target = arms.object_pos(), arms.marker_pos()
        return {
            "gripper_width": arms.gripper_width,
            "object_pos": cube,
            "object_quat": arms.object_quat(),
            "target_pos": target,
            "object_rel_pos": cube - arms.tool_pos,
            "target_rel_pos": target - cube,
        }

    def layout(self, observation: Mapping[str, Array]) -> dict[str, Array]:
        """Return where the cube and its target are, as in `Task.layout`.

        Args:
            observation: Batched observation, each key `[N, ...]`.
        """
        return {
            **coordinates("object", observation["object_pos"], "xy"),
            "object_yaw": yaw_of(observation["object_quat"]),
            **coordinates("target", observation["target_pos"], "xy"),
        }


def draw_apart(
    generators: Sequence[np.random.Generator],
    low: Array,
    high: Array,
    *,
    min_m: float,
    max_m: float,
) -> tuple[Array, Array]:
    """Draw two points of a rectangle, for each generator, that are a given distance apart.

    Args:
        generators: One random generator per pair `[K]`.
        low: Lower corner of the rectangle `[2]` [m].
        high: Upper corner of the rectangle `[2]` [m].
        min_m: Minimum distance between the two points [m].
        max_m: Maximum distance between the two points [m].

    Returns:
        First and second points, each `[K, 2]` [m].
    """
    pairs = np.array([_pair(rng, low, high, min_m, max_m) for rng in generators])
    return pairs[:, 0], pairs[:, 1]


def _pair(rng: np.random.Generator, low: Array, high: Array, min_m: float, max_m: float) -> Array:
    while True:
        pair = rng.uniform(low, high, (2, 2))
        if min_m <= float(np.hypot(*(pair[1] - pair[0]))) <= max_m:
            return pair


def yaw_quat(yaw: Array) -> Array:
    """Return the rotation by `yaw` `[K]` [rad] about the vertical as `[K, 4]` (w, x, y, z)."""
    zero = np.zeros_like(yaw)
    return np.stack([np.cos(0.5 * yaw), zero, zero, np.sin(0.5 * yaw)], axis=-1)


def yaw_of(quat: Array) -> Array:
    """Return the angle `[K]` [rad] of rotations about the vertical `[K, 4]` (w, x, y, z)."""
    yaw: Array = 2.0 * np.arctan2(quat[:, 3], quat[:, 0])
    return yaw


def reward_cube(observation: Mapping[str, Array], success: NDArray[np.bool_]) -> Array:
    """Return the reward `[N]`: 1 for success, less two distances [m].

    The distances are those of the tool from the cube and of the cube from its target.

    Args:
        observation: Batched observation with ``object_rel_pos`` and ``target_rel_pos``,
            `[N, 3]` [m].
        success: Whether the task is done `[N]`.

    Returns:
        Reward `[N]`.

    Source:
        Ours.
    """
    reach, carry = observation["object_rel_pos"], observation["target_rel_pos"]
    away: Array = np.sqrt((reach * reach).sum(axis=-1)) + np.sqrt((carry * carry).sum(axis=-1))
    return success - away
