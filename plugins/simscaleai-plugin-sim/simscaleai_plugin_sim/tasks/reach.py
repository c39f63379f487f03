"""Reach: bring the tool to a point in the workspace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from simscaleai_plugin_sim.physics.simulation import ACTION_SCALE_M, ArmSimulation, EnvIds
from simscaleai_plugin_sim.tasks.task import coordinates

Array = NDArray[np.float64]

TARGET_LOW_M = np.array([0.32, -0.28, 0.05])
TARGET_HIGH_M = np.array([0.64, 0.28, 0.45])
"""Corners of the box that targets are drawn from, base frame [m]."""
TOLERANCE_M = 0.02
"""Distance from the target at which the task is done [m]."""


class Reach:
    """Move the tool to within 2 cm of a target that is drawn uniformly from a box."""

    name: ClassVar[str] = "reach"
    env_id: ClassVar[str] = "SimScale/Reach-v0"
    max_episode_steps: ClassVar[int] = 50

    def bodies(self) -> str:
        """Return the target: a ball that can be seen and not touched."""
        return (
            '<body name="target" mocap="true"><geom type="sphere" size=".03" contype="0" '
            'conaffinity="0" rgba=".85 .15 .12 1"/></body>'
        )

    def spaces(self) -> dict[str, Box]:
        """Return the space of ``target_pos`` `[3]` [m]."""
        return {"target_pos": Box(TARGET_LOW_M, TARGET_HIGH_M, dtype=np.float64)}

    def place(
        self, arms: ArmSimulation, env_ids: EnvIds, generators: Sequence[np.random.Generator]
    ) -> None:
        """Draw a target for each of the environments `[K]`; see `Task.place`."""
        targets = [generator.uniform(TARGET_LOW_M, TARGET_HIGH_M) for generator in generators]
        arms.place_marker(env_ids, np.array(targets))

    def observe(self, arms: ArmSimulation) -> dict[str, NDArray[np.generic]]:
        """Return ``target_pos`` `[N, 3]` [m]."""
        return {"target_pos": arms.marker_pos()}

    def judge(self, observation: Mapping[str, Array]) -> tuple[Array, NDArray[np.bool_]]:
        """Return the negative distance [m], plus 1 at the target, and whether it was reached.

        Args:
            observation: Batched observation with ``ee_pos`` and ``target_pos``, `[N, 3]` [m].

        Returns:
            Reward `[N]` and success `[N]`.

        Source:
            Ours.
        """
        offset = observation["target_pos"] - observation["ee_pos"]
        distance = np.sqrt((offset * offset).sum(axis=-1))
        success = distance < TOLERANCE_M
        return success - distance, success

    def layout(self, observation: Mapping[str, Array]) -> dict[str, Array]:
        """Return where the target is, as in `Task.layout`.

        Args:
            observation: Batched observation with ``target_pos`` `[N, 3]` [m].
        """
        return coordinates("target", observation["target_pos"])

    @staticmethod
    def expert(observation: Mapping[str, Array]) -> Array:
        """Go straight to the target, as fast as the action allows, with the gripper open.

        Args:
            observation: Batched observation with ``ee_pos`` and ``target_pos``, `[N, 3]` [m].

        Returns:
            Actions `[N, 4]` [unitless, -1 to 1].

        Source:
            Ours.
        """
        offset = observation["target_pos"] - observation["ee_pos"]
        actions = np.ones((len(offset), 4))
        actions[:, :3] = np.clip(offset / ACTION_SCALE_M, -1.0, 1.0)
        return actions
