"""Many arms in one batch as a Gymnasium vector environment.

N: environments (``num_envs``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_sim.arm_env.core import ArmCore, Observation, action_space
from simscaleai_plugin_sim.physics.randomization import RandomizationLike, as_randomization
from simscaleai_plugin_sim.physics.rendering import Image
from simscaleai_plugin_sim.tasks import build_task

Mask = NDArray[np.bool_]


class ArmVectorEnv(VectorEnv[Observation, NDArray[np.float64], NDArray[Any]]):
    """N arms at one task; the caller resets each of them with a seed when its episode has ended.

    Args:
        num_envs: Number of environments.
        task: Name of the task, such as ``"reach"``.
        max_episode_steps: Control steps after which an episode is cut off [steps]; None takes the
            task's own, -1 means never.
        images: Side of the square camera images [pixels]; 0 for none, None for the task's own.
        cameras: Cameras to add, of ``"front"`` (key ``image``) and ``"wrist"`` (key
            ``wrist_image``), as a sequence or as text with commas; None for the task's own.
        phrasing: Which templates a task with instructions draws from: ``"seen"`` (also None),
            ``"unseen"`` or ``"all"``.
        randomize: What differs from episode to episode: a `DomainRandomization`, its fields by
            name, or ``"default"``; None or ``"none"`` for nothing.
        friction: Factor on the sliding friction of fingers, objects and table [unitless].
        mass: Factor on the mass and inertia of each object [unitless].
        gains: Factor on stiffness and damping of the servo of each joint [unitless].
        light: Factor on the brightness of all lights [unitless]; only images show it. What
            `randomize` draws is multiplied by these factors.
        render_mode: None or ``"rgb_array"``.

    Raises:
        ConfigError: If an option is out of range.

    Example:
        >>> envs = ArmVectorEnv(3, "reach")
        >>> observations, infos = envs.reset(seed=[5, 6, 7])
        >>> observations["ee_pos"].shape
        (3, 3)
        >>> envs.close()
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": ["rgb_array"],
        "render_fps": 20,
        "autoreset_mode": AutoresetMode.DISABLED,
    }

    def __init__(
        self,
        num_envs: int = 1,
        task: str = "reach",
        *,
        max_episode_steps: int | None = None,
        images: int | None = None,
        cameras: str | Sequence[str] | None = None,
        phrasing: str | None = None,
        randomize: RandomizationLike = None,
        friction: float = 1.0,
        mass: float = 1.0,
        gains: float = 1.0,
        light: float = 1.0,
        render_mode: str | None = None,
    ) -> None:
        self._core = ArmCore(
            build_task(task),
            num_envs,
            images=images,
            cameras=cameras,
            phrasing=phrasing,
            randomize=as_randomization(
                randomize, {"friction": friction, "mass": mass, "gains": gains, "light": light}
            ),
        )
        own_limit = self._core.task.max_episode_steps
        limit = own_limit if max_episode_steps is None else max_episode_steps
        if type(limit) is not int or (limit < 1 and limit != -1):
            raise ConfigError(f"max_episode_steps: expected at least 1, or -1, got {limit!r}")
        self._limit = np.inf if limit == -1 else limit
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.single_observation_space = self._core.observation_space()
        self.single_action_space = action_space()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._generators = [seeding.np_random()[0] for _ in range(num_envs)]
        self._elapsed = np.zeros(num_envs, dtype=np.int64)
        self._ended = np.ones(num_envs, dtype=np.bool_)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode in every environment, or in those of a mask.

        Args:
            seed: One seed per environment; an int means ``seed + i``; None continues an
                environment's present random stream. Seeds of environments that are not reset are
                not used.
            options: ``{"reset_mask": bool [N]}`` chooses the environments; all of them without it.

        Returns:
            Observations of every environment, each key `[N, ...]`, and infos with ``is_success``
            and ``initial_condition``, see `ArmCore.initial_condition`; if the task has
            instructions, also ``language`` and ``privileged``, see `ArmCore.infos`.

        Raises:
            ValueError: If the seeds or the mask do not fit the number of environments.
        """
        mask = _reset_mask(options, self.num_envs)
        seeds = _env_seeds(seed, self.num_envs)
        env_ids = np.flatnonzero(mask)
        for env in env_ids.tolist():
            if seeds[env] is not None:
                self._generators[env] = seeding.np_random(seeds[env])[0]
        observation = self._core.reset(env_ids, [self._generators[env] for env in env_ids])
        self._elapsed[mask] = 0
        self._ended[mask] = False
        infos = self._core.infos()
        infos |= {
            "is_success": np.zeros(self.num_envs, dtype=np.bool_),
            "_is_success": mask,
            "initial_condition": self._core.initial_condition(observation, infos),
            "_initial_condition": mask,
        }
        return observation, infos

    def step(
        self, actions: NDArray[np.float64]
    ) -> tuple[Observation, NDArray[np.float64], Mask, Mask, dict[str, Any]]:
        """Advance every environment by one control step of 50 ms.

        Args:
            actions: Commands `[N, 4]` [unitless, -1 to 1]; values outside are clipped.

        Returns:
            Observations, rewards, terminations, truncations, and infos as from `reset`, without
            ``initial_condition``; each `[N, ...]`.

        Raises:
            ResetNeeded: If the episode of an environment has ended, or none has begun.
        """
        if self._ended.any():
            raise ResetNeeded(
                f"environments {np.flatnonzero(self._ended).tolist()} have no running episode: "
                "expected reset(seed=..., options={'reset_mask': mask}) before step()"
            )
        result = self._core.step(actions)
        self._elapsed += 1
        truncated = self._elapsed >= self._limit
        self._ended = result.success | truncated
        infos = {"is_success": result.success.copy(), "_is_success": np.ones_like(truncated)}
        infos |= result.infos
        return result.observation, result.reward, result.success, truncated, infos

    def render(self) -> tuple[Image, ...] | None:
        """Return each arm's image `[480, 480, 3]` of the front camera, or None without a mode."""
        if self.render_mode != "rgb_array":
            return None
        return tuple(self._core.draw(env) for env in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:  # noqa: ARG002 - Gymnasium's signature
        """Free what drawing took."""
        self._core.close()

    @property
    def physics_s(self) -> float:
        """Time that stepping the physics has taken so far [s]."""
        return self._core.arms.physics_s

    @property
    def expert(self) -> Any:
        """The task's scripted expert: batched observation to actions `[N, 4]`."""
        return self._core.task.expert


def _reset_mask(options: dict[str, Any] | None, num_envs: int) -> Mask:
    """Return the environments to reset `[N]`.

    Raises:
        ValueError: If the mask is not a bool array `[N]` with at least one True.
    """
    if not options or "reset_mask" not in options:
        return np.ones(num_envs, dtype=np.bool_)
    mask: Mask = np.asarray(options["reset_mask"])
    if mask.shape != (num_envs,) or mask.dtype != np.bool_ or not mask.any():
        raise ValueError(
            f"reset_mask: expected bool [{num_envs}] with at least one True, "
            f"got {mask.dtype} {list(mask.shape)}: {mask!r}"
        )
    return mask.copy()


def _env_seeds(seed: int | Sequence[int | None] | None, num_envs: int) -> Sequence[int | None]:
    """Return one seed or None per environment `[N]`.

    Raises:
        ValueError: If the number of seeds is not the number of environments.
    """
    if seed is None:
        return [None] * num_envs
    if isinstance(seed, int):
        return [seed + env for env in range(num_envs)]
    if len(seed) != num_envs:
        raise ValueError(f"seed: expected {num_envs} seeds, one per environment, got {len(seed)}")
    return seed
