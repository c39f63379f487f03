"""Reach one of three balls: the instruction names it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from simscaleai_plugin_sim.physics.simulation import ACTION_SCALE_M, ArmSimulation, EnvIds
from simscaleai_plugin_sim.tasks.phrasing import REACH, Phrasebook
from simscaleai_plugin_sim.tasks.task import coordinates

Array = NDArray[np.float64]

BALL_LOW_M = np.array([0.38, -0.24, 0.06])
BALL_HIGH_M = np.array([0.62, 0.24, 0.34])
"""Corners of the box that the balls' centres are drawn from, base frame [m]."""
BALL_RADIUS_M = 0.03
APART_M = 0.12
"""Minimum distance between two balls' centres as the front camera sees them [m]."""
TOLERANCE_M = 0.03
"""Distance from the named ball's centre at which the task is done [m]."""
COLOURS = (".9 .08 .06 1", ".05 .7 .1 1", ".08 .16 .95 1")
"""Red, green and blue, in the order of the phrasebook's names."""

_CAMERA_AXES = np.array([[0.0, 1.0, 0.0], [-0.58, 0.0, 0.815]])
_CAMERA = '<camera name="front" pos="1.10 0 .70" xyaxes="0 1 0 -.58 0 .815" fovy="48"/>'


class ReachExpert:
    """Goes straight to the named ball, as fast as the action allows, with the gripper open."""

    def __call__(self, observation: Mapping[str, Array], /) -> Array:
        """Return the way to the named ball.

        Args:
            observation: Batched observation with ``ee_pos`` `[N, 3]` [m], and the privileged
                ``ball_pos`` `[N, 3, 3]` [m] and ``target_index`` `[N]`.

        Returns:
            Actions `[N, 4]` [unitless, -1 to 1].

        Source:
            Ours.
        """
        return _way(observation, np.asarray(observation["target_index"], dtype=np.int64))

    def relabelled(self, observation: Mapping[str, Array], /) -> list[tuple[list[str], Array]]:
        """Return what would be done under the two other instructions.

        Args:
            observation: As for a call, with ``template_index`` `[N]`.

        Returns:
            Instructions `[N]` and actions `[N, 4]`, for each of the other two balls.
        """
        others = (REACH.relabelled(observation, shift) for shift in (1, 2))
        return [(texts, _way(observation, index)) for texts, index in others]


class ReachLanguage:
    """Move the tool to within 3 cm of one of three balls; an instruction names its colour."""

    name: ClassVar[str] = "reach_language"
    env_id: ClassVar[str] = "SimScale/ReachLanguage-v0"
    max_episode_steps: ClassVar[int] = 40
    images: ClassVar[int] = 64
    cameras: ClassVar[tuple[str, ...]] = ("front",)
    phrasebook: ClassVar[Phrasebook] = REACH
    expert: ClassVar[ReachExpert] = ReachExpert()

    def bodies(self) -> str:
        """Return three balls that can be seen and not touched, and a camera that looks at them."""
        balls = "".join(
            f'<body name="{name}_ball" mocap="true"><geom type="sphere" size="{BALL_RADIUS_M}" '
            f'contype="0" conaffinity="0" rgba="{colour}"/></body>'
            for name, colour in zip(REACH.names, COLOURS, strict=True)
        )
        return _CAMERA + balls

    def spaces(self) -> dict[str, Box]:
        """Return no space: only the camera sees the balls."""
        return {}

    def place(
        self, arms: ArmSimulation, env_ids: EnvIds, generators: Sequence[np.random.Generator]
    ) -> None:
        """Draw three balls that do not hide one another, as in `Task.place`."""
        balls = np.array([_scattered(generator) for generator in generators])
        for index in range(len(REACH.names)):
            arms.place_marker(env_ids, balls[:, index], index)

    def observe(self, arms: ArmSimulation) -> dict[str, NDArray[np.generic]]:  # noqa: ARG002
        """Return nothing: only the camera sees the balls."""
        return {}

    def privileged(self, arms: ArmSimulation) -> dict[str, NDArray[np.generic]]:
        """Return ``ball_pos`` `[N, 3, 3]`: environment, ball, coordinate [m]."""
        balls = [arms.marker_pos(index) for index in range(len(REACH.names))]
        return {"ball_pos": np.stack(balls, axis=1)}

    def judge(self, observation: Mapping[str, Array]) -> tuple[Array, NDArray[np.bool_]]:
        """Return the negative distance to the named ball [m], plus 1 at it, and who is there.

        Args:
            observation: Batched ``ee_pos`` `[N, 3]` [m], ``ball_pos`` `[N, 3, 3]` [m] and
                ``target_index`` `[N]`.

        Returns:
            Reward `[N]` and success `[N]`.

        Source:
            Ours.
        """
        offset = _offset(observation, np.asarray(observation["target_index"], dtype=np.int64))
        distance = np.sqrt((offset * offset).sum(axis=-1))
        success = distance < TOLERANCE_M
        return success - distance, success

    def layout(self, observation: Mapping[str, Array]) -> dict[str, Array]:
        """Return where the named ball and all balls are, as in `Task.layout`.

        Args:
            observation: As for `judge`.
        """
        balls, index = observation["ball_pos"], np.asarray(observation["target_index"], np.int64)
        found = coordinates("target", balls[np.arange(len(balls)), index])
        for number, name in enumerate(REACH.names):
            found |= coordinates(name, balls[:, number])
        return found


def _offset(observation: Mapping[str, Array], index: NDArray[np.int64]) -> Array:
    balls = observation["ball_pos"]
    offset: Array = balls[np.arange(len(balls)), index] - observation["ee_pos"]
    return offset


def _way(observation: Mapping[str, Array], index: NDArray[np.int64]) -> Array:
    offset = _offset(observation, index)
    actions = np.ones((len(offset), 4))
    actions[:, :3] = np.clip(offset / ACTION_SCALE_M, -1.0, 1.0)
    return actions


def _scattered(generator: np.random.Generator) -> Array:
    """Return three places `[3, 3]` [m], apart as the camera sees them."""
    while True:
        balls: Array = generator.uniform(BALL_LOW_M, BALL_HIGH_M, (3, 3))
        seen = balls @ _CAMERA_AXES.T
        gaps = seen[:, None] - seen[None]
        distance = np.sqrt((gaps * gaps).sum(axis=-1)) + np.eye(3)
        if distance.min() >= APART_M:
            return balls
