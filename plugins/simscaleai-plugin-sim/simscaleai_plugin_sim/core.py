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
from simscaleai_plugin_sim.phrasing import SlotInstructions
from simscaleai_plugin_sim.randomization import DomainRandomization, Randomizer, as_randomization
from simscaleai_plugin_sim.rendering import Image, Renderer
from simscaleai_plugin_sim.simulation import ACTION_DIM, ArmSimulation, Slots
from simscaleai_plugin_sim.tasks import LanguageTask, Task
from simscaleai_plugin_sim.tasks.task import PrivilegedTask
from simscaleai_plugin_sim.views import View, views_of

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
    facts: dict[str, Any]
    """See `ArmCore.facts`."""


class ArmCore:
    """N arms at one task.

    Args:
        task: What to do.
        num_slots: Simulations in the batch.
        images: Side of the square camera images [pixels]; 0 for none, None for the task's own.
        cameras: Names of the cameras, also as text with commas; None for the task's own.
        phrasing: Which templates instructions are drawn from; None for ``"seen"``.
        randomize: What differs from episode to episode, also by name; None for nothing.

    Raises:
        ConfigError: If a number is out of range, there is no such camera, phrasing or
            randomisation, or a phrasing is given and the task has no instructions.
    """

    def __init__(
        self,
        task: Task,
        num_slots: int,
        *,
        images: int | None = None,
        cameras: str | Sequence[str] | None = None,
        phrasing: str | None = None,
        randomize: str | DomainRandomization | None = None,
    ) -> None:
        if num_slots < 1:
            raise ConfigError(f"num_envs: expected at least 1, got {num_slots}")
        self._views = views_of(task, images, cameras)
        self._instructions = _instructions(task, phrasing, num_slots)
        self.task = task
        config = as_randomization(randomize)
        self.arms = ArmSimulation(task.bodies(), num_slots)
        self._randomizer = None if config is None else Randomizer(self.arms, config)
        self._frames: dict[str, Image] = {}
        self._renderers: dict[int, Renderer] = {}
        self._data: mujoco.MjData | None = None

    def reset(self, slots: Slots, generators: Sequence[np.random.Generator]) -> Observation:
        """Begin an episode in each of the slots `[K]`, drawn from the slot's own generator.

        Args:
            slots: Slots to begin in `[K]`.
            generators: One random generator per slot in `slots`, in the same order.

        Returns:
            What is seen in every slot, each key `[N, ...]`.
        """
        if self._randomizer is not None:
            self._randomizer.draw(slots, generators)
        self.arms.home(slots)
        self.task.place(self.arms, slots, generators)
        self.arms.settle(slots)
        if self._instructions is not None:
            self._instructions.draw(slots, generators)
        return self._observe(slots)

    def step(self, actions: Array) -> Outcome:
        """Return what one control step under `actions` `[N, 4]` gives in every slot."""
        self.arms.act(np.asarray(actions, dtype=np.float64))
        observation = self._observe(np.arange(self.arms.num_slots))
        facts = self.facts()
        reward, success = self.task.judge(self._known(observation, facts))
        return Outcome(observation, reward, success, facts)

    def facts(self) -> dict[str, Any]:
        """Return what infos tell beside success.

        Returns:
            ``language``, the instructions `[N]`, if the task has any; and ``privileged``, what the
            expert and the judge know and the observation does not hold, if there is any, each key
            `[N, ...]`.
        """
        if not isinstance(self.task, PrivilegedTask):
            return {}
        privileged = self.task.privileged(self.arms)
        if self._instructions is None:
            return {"privileged": privileged}
        indices = self._instructions.indices()
        return {
            "language": self._instructions.texts(),
            "privileged": {**privileged, **indices},
        }

    def draw(self, slot: int, size: int = RENDER_SIZE, camera: str = "front") -> Image:
        """Return a camera's image `[size, size, 3]` of one slot."""
        if size not in self._renderers:
            self._renderers[size] = Renderer(self.arms.model, size)
        if self._data is None:
            self._data = mujoco.MjData(self.arms.model)
        self.arms.load(slot, self._data)
        return self._renderers[size].draw(self._data, camera)

    def close(self) -> None:
        """Free what drawing took; safe to call twice."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

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
            **{view.key: view.space() for view in self._views},
        }
        return spaces.Dict(entries, sort_keys=False)

    def _observe(self, changed: Slots) -> Observation:
        """Return what is seen in every slot, after those in `changed` `[K]` have changed."""
        observation: Observation = {
            "joint_pos": self.arms.joint_pos,
            "joint_vel": self.arms.joint_vel,
            "ee_pos": self.arms.tool_pos,
            **self.task.observe(self.arms),
        }
        for view in self._views:
            observation[view.key] = self._frames_of(view, changed)
        return observation

    def _frames_of(self, view: View, changed: Slots) -> Image:
        """Return one camera's images of every slot `[N, H, W, 3]`, drawing only what changed."""
        if view.key not in self._frames:
            shape = (self.arms.num_slots, view.size, view.size, 3)
            self._frames[view.key] = np.zeros(shape, dtype=np.uint8)
            changed = np.arange(self.arms.num_slots)
        frames = self._frames[view.key]
        for slot in changed.tolist():
            frames[slot] = self.draw(slot, view.size, view.camera)
        return frames.copy()

    def _known(self, observation: Observation, facts: Mapping[str, Any]) -> dict[str, Array]:
        """Return the observation without images, and the privileged state."""
        images = {view.key for view in self._views}
        seen = {
            k: v.astype(np.float64, copy=False) for k, v in observation.items() if k not in images
        }
        return {**seen, **facts.get("privileged", {})}


def action_space() -> spaces.Space[Any]:
    """Return the space of one slot's action: displacement x, y, z and the gripper."""
    return spaces.Box(-1.0, 1.0, (ACTION_DIM,), dtype=np.float64)


def _instructions(task: Task, phrasing: str | None, num_slots: int) -> SlotInstructions | None:
    """Return who is told what, or None if the task has no instructions.

    Raises:
        ConfigError: If a phrasing is given and the task has none.
    """
    if isinstance(task, LanguageTask):
        return SlotInstructions(task.phrasebook, phrasing or "seen", num_slots)
    if phrasing is not None:
        raise ConfigError(
            f"task {task.name!r} has no instructions: expected no phrasing, got {phrasing!r}. "
            "Leave it out."
        )
    return None
