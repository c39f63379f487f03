"""The arm at its task, in N slots at once: what the single and the vector environment share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mujoco
import numpy as np
from attrs import frozen
from gymnasium import spaces
from numpy.typing import NDArray

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_sim.arm import JOINT_HIGH_RAD, JOINT_LOW_RAD
from simscaleai_plugin_sim.rendering import FrontCamera, Image
from simscaleai_plugin_sim.scene import MAX_IMAGE_SIZE
from simscaleai_plugin_sim.simulation import ACTION_DIM, ArmSimulation, Slots
from simscaleai_plugin_sim.tasks import Task

Array = NDArray[np.float64]
Observation = dict[str, NDArray[np.generic]]

LIMIT_MARGIN_RAD = 0.1
"""How far a joint may be pushed beyond its soft limit and still be in the space [rad]."""
MAX_JOINT_VEL = 50.0
"""Bound of the joint velocities' space, far above what the motors reach [rad/s]."""
MAX_REACH_M = 1.5
"""Bound of the tool position's space, beyond the arm's length [m]."""
RENDER_SIZE = 480
"""Side of the image that ``render()`` returns [pixels]."""


@frozen
class Outcome:
    """What one control step gave in every slot."""

    observation: Observation
    """Observation after the step, each key `[N, ...]`."""
    reward: Array
    """Reward `[N]`."""
    success: NDArray[np.bool_]
    """Whether the task is done `[N]`."""


class ArmCore:
    """N arms at one task.

    Args:
        task: What to do.
        num_slots: Simulations in the batch.
        images: Side of the square camera image to add as the key ``image`` [pixels], or None.

    Raises:
        ConfigError: If the number of slots or the image size is out of range.
    """

    def __init__(self, task: Task, num_slots: int, images: int | None) -> None:
        if num_slots < 1:
            raise ConfigError(f"num_envs: expected at least 1, got {num_slots}")
        if images is not None and not 1 <= images <= MAX_IMAGE_SIZE:
            raise ConfigError(f"images: expected 1 to {MAX_IMAGE_SIZE} pixels, got {images}")
        self.task = task
        self.arms = ArmSimulation(task.bodies(), num_slots)
        self._images = images
        self._cameras: dict[int, FrontCamera] = {}
        self._data: mujoco.MjData | None = None

    def reset(self, slots: Slots, generators: Sequence[np.random.Generator]) -> None:
        """Begin an episode in each of the slots `[K]`, drawn from the slot's own generator.

        Args:
            slots: Slots to begin in `[K]`.
            generators: One random generator per slot in `slots`, in the same order.
        """
        self.arms.home(slots)
        self.task.place(self.arms, slots, generators)
        self.arms.settle(slots)

    def step(self, actions: Array) -> Outcome:
        """Return what one control step under `actions` `[N, 4]` gives in every slot."""
        self.arms.act(np.asarray(actions, dtype=np.float64))
        observation = self.observe()
        reward, success = self.task.judge(_numbers(observation))
        return Outcome(observation, reward, success)

    def observe(self) -> Observation:
        """Return what is seen in every slot, each key `[N, ...]`, as arrays of their own."""
        observation: Observation = {
            "joint_pos": self.arms.joint_pos,
            "joint_vel": self.arms.joint_vel,
            "ee_pos": self.arms.tool_pos,
            **self.task.observe(self.arms),
        }
        if self._images is not None:
            frames = [self.draw(slot, self._images) for slot in range(self.arms.num_slots)]
            observation["image"] = np.stack(frames)
        return observation

    def draw(self, slot: int, size: int = RENDER_SIZE) -> Image:
        """Return the front camera's image `[size, size, 3]` of one slot."""
        if size not in self._cameras:
            self._cameras[size] = FrontCamera(self.arms.model, size)
        if self._data is None:
            self._data = mujoco.MjData(self.arms.model)
        self.arms.load(slot, self._data)
        return self._cameras[size].draw(self._data)

    def close(self) -> None:
        """Free what drawing took; safe to call twice."""
        for camera in self._cameras.values():
            camera.close()
        self._cameras.clear()

    def observation_space(self) -> spaces.Space[Any]:
        """Return the space of one slot's observation."""
        entries: dict[str, spaces.Space[Any]] = {
            "joint_pos": spaces.Box(
                JOINT_LOW_RAD - LIMIT_MARGIN_RAD,
                JOINT_HIGH_RAD + LIMIT_MARGIN_RAD,
                dtype=np.float64,
            ),
            "joint_vel": spaces.Box(-MAX_JOINT_VEL, MAX_JOINT_VEL, (7,), dtype=np.float64),
            "ee_pos": spaces.Box(-MAX_REACH_M, MAX_REACH_M, (3,), dtype=np.float64),
            **self.task.spaces(),
        }
        if self._images is not None:
            shape = (self._images, self._images, 3)
            entries["image"] = spaces.Box(0, 255, shape, dtype=np.uint8)
        return spaces.Dict(entries, sort_keys=False)


def action_space() -> spaces.Space[Any]:
    """Return the space of one slot's action: displacement x, y, z and the gripper."""
    return spaces.Box(-1.0, 1.0, (ACTION_DIM,), dtype=np.float64)


def _numbers(observation: Observation) -> Mapping[str, Array]:
    return {k: v.astype(np.float64, copy=False) for k, v in observation.items() if k != "image"}
