"""N arms at one task: what the single and the vector environment share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mujoco
import numpy as np
from attrs import frozen
from gymnasium import spaces
from numpy.typing import NDArray

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_sim.arm_env.late_actions import LateActions
from simscaleai_plugin_sim.arm_env.views import View, views_of
from simscaleai_plugin_sim.physics.arm import JOINT_HIGH_RAD, JOINT_LOW_RAD
from simscaleai_plugin_sim.physics.randomization import DomainRandomization
from simscaleai_plugin_sim.physics.randomizer import Randomizer
from simscaleai_plugin_sim.physics.rendering import Image, Renderer
from simscaleai_plugin_sim.physics.simulation import ACTION_DIM, ArmSimulation, EnvIds
from simscaleai_plugin_sim.tasks import LanguageTask, Task
from simscaleai_plugin_sim.tasks.phrasing import EpisodeInstructions
from simscaleai_plugin_sim.tasks.task import PrivilegedTask

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
class StepResult:
    """What one control step gave in every environment."""

    observation: Observation
    """Observation after the step, each key `[N, ...]`."""
    reward: Array
    """Reward `[N]`."""
    success: NDArray[np.bool_]
    """Whether the task is done `[N]`."""
    infos: dict[str, Any]
    """See `ArmCore.infos`."""


class ArmCore:
    """N arms at one task.

    Args:
        task: What to do.
        num_envs: Simulations in the batch.
        images: Side of the square camera images [pixels]; 0 for none, None for the task's own.
        cameras: Names of the cameras, also as text with commas; None for the task's own.
        phrasing: Which templates instructions are drawn from; None for ``"seen"``.
        randomize: What differs from episode to episode; None for nothing.

    Raises:
        ConfigError: If a number is out of range, there is no such camera or phrasing, or a
            phrasing is given and the task has no instructions.
    """

    def __init__(
        self,
        task: Task,
        num_envs: int,
        *,
        images: int | None = None,
        cameras: str | Sequence[str] | None = None,
        phrasing: str | None = None,
        randomize: DomainRandomization | None = None,
    ) -> None:
        if num_envs < 1:
            raise ConfigError(f"num_envs: expected at least 1, got {num_envs}")
        self._views = views_of(task, images, cameras)
        self._instructions = _instructions(task, phrasing, num_envs)
        self.task = task
        self.arms = ArmSimulation(task.bodies(), num_envs)
        self._randomizer = None if randomize is None else Randomizer(self.arms, randomize)
        self._late = None
        if randomize is not None and randomize.delay is not None:
            self._late = LateActions(num_envs, int(randomize.delay[1]))
        self._frames: dict[str, Image] = {}
        self._renderers: dict[int, Renderer] = {}
        self._data: mujoco.MjData | None = None

    def reset(self, env_ids: EnvIds, generators: Sequence[np.random.Generator]) -> Observation:
        """Begin an episode in each of the environments `[K]`, drawn from its own generator.

        Args:
            env_ids: Environments to begin in `[K]`.
            generators: One random generator per environment in `env_ids`, in the same order.

        Returns:
            The observation of every environment, each key `[N, ...]`.
        """
        if self._randomizer is not None:
            self._randomizer.draw(env_ids, generators)
            if self._late is not None:
                self._late.begin(env_ids, self._randomizer.delay[env_ids])
        self.arms.home(env_ids)
        self.task.place(self.arms, env_ids, generators)
        self.arms.settle(env_ids)
        if self._instructions is not None:
            self._instructions.draw(env_ids, generators)
        return self._observe(env_ids)

    def step(self, actions: Array) -> StepResult:
        """Return what one control step under `actions` `[N, 4]` gives in every environment."""
        actions = np.asarray(actions, dtype=np.float64)
        self.arms.act(actions if self._late is None else self._late.executed(actions))
        observation = self._observe(np.arange(self.arms.num_envs))
        infos = self.infos()
        reward, success = self.task.judge(self._known(observation, infos))
        return StepResult(observation, reward, success, infos)

    def infos(self) -> dict[str, Any]:
        """Return what infos hold besides success.

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

    def initial_condition(
        self, observation: Observation, infos: Mapping[str, Any]
    ) -> dict[str, Array]:
        """Return where the task's things are [m, rad] and the factors in effect [unitless].

        Args:
            observation: What `reset` gave.
            infos: What `infos` gave.

        Returns:
            Values by name, each `[N]` or `[N, ...]`, of use where an episode has just begun.
        """
        layout = self.task.layout(self._known(observation, infos))
        return layout if self._randomizer is None else layout | self._randomizer.factors()

    def draw(self, env: int, size: int = RENDER_SIZE, camera: str = "front") -> Image:
        """Return a camera's image `[size, size, 3]` of one environment."""
        if size not in self._renderers:
            self._renderers[size] = Renderer(self.arms.model, size)
        if self._data is None:
            self._data = mujoco.MjData(self.arms.model)
        self.arms.load(env, self._data)
        return self._renderers[size].draw(self._data, camera)

    def close(self) -> None:
        """Free what drawing took; safe to call twice."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

    def observation_space(self) -> spaces.Space[Any]:
        """Return the space of one environment's observation."""
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

    def _observe(self, changed: EnvIds) -> Observation:
        """Return the observation of every environment, of which `changed` `[K]` have changed."""
        observation: Observation = {
            "joint_pos": self.arms.joint_pos,
            "joint_vel": self.arms.joint_vel,
            "ee_pos": self.arms.tool_pos,
            **self.task.observe(self.arms),
        }
        for view in self._views:
            observation[view.key] = self._frames_of(view, changed)
        return observation

    def _frames_of(self, view: View, changed: EnvIds) -> Image:
        """Return one camera's images of all environments `[N, H, W, 3]`, drawing `changed`."""
        if view.key not in self._frames:
            shape = (self.arms.num_envs, view.size, view.size, 3)
            self._frames[view.key] = np.zeros(shape, dtype=np.uint8)
            changed = np.arange(self.arms.num_envs)
        frames = self._frames[view.key]
        for env in changed.tolist():
            frames[env] = self.draw(env, view.size, view.camera)
        return frames.copy()

    def _known(self, observation: Observation, infos: Mapping[str, Any]) -> dict[str, Array]:
        """Return the observation without images, and the privileged state."""
        images = {view.key for view in self._views}
        seen = {
            k: v.astype(np.float64, copy=False) for k, v in observation.items() if k not in images
        }
        return {**seen, **infos.get("privileged", {})}


def action_space() -> spaces.Space[Any]:
    """Return the space of one environment's action: displacement x, y, z and the gripper."""
    return spaces.Box(-1.0, 1.0, (ACTION_DIM,), dtype=np.float64)


def _instructions(task: Task, phrasing: str | None, num_envs: int) -> EpisodeInstructions | None:
    """Return the instructions, or None if the task has none.

    Raises:
        ConfigError: If a phrasing is given and the task has none.
    """
    if isinstance(task, LanguageTask):
        return EpisodeInstructions(
            task.phrasebook, "seen" if phrasing is None else phrasing, num_envs
        )
    if phrasing is not None:
        raise ConfigError(
            f"task {task.name!r} has no instructions: expected no phrasing, got {phrasing!r}. "
            "Leave it out."
        )
    return None
