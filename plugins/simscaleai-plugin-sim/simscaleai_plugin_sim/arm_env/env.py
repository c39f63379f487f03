"""One arm as a Gymnasium environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
from numpy.typing import NDArray

from simscaleai_plugin_sim.arm_env.core import ArmCore, Observation, action_space
from simscaleai_plugin_sim.physics.randomization import RandomizationLike, as_randomization
from simscaleai_plugin_sim.physics.rendering import Image
from simscaleai_plugin_sim.tasks import build_task

_FIRST = np.array([0])


class ArmEnv(gymnasium.Env[Observation, NDArray[np.float64]]):
    """One arm at one task; an episode ends when the task is done.

    The same core as `ArmVectorEnv`, for one arm: both give the same numbers, bit for bit. An
    episode depends on its seed and the actions only.

    Args:
        task: Name of the task, such as ``"reach"``.
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

    Example:
        >>> env = ArmEnv("reach")
        >>> observation, info = env.reset(seed=0)
        >>> sorted(observation)
        ['ee_pos', 'joint_pos', 'joint_vel', 'target_pos']
        >>> env.close()
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 20}  # type: ignore[misc]

    def __init__(
        self,
        task: str = "reach",
        *,
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
            1,
            images=images,
            cameras=cameras,
            phrasing=phrasing,
            randomize=as_randomization(
                randomize, {"friction": friction, "mass": mass, "gains": gains, "light": light}
            ),
        )
        self.render_mode = render_mode
        self.observation_space = self._core.observation_space()
        self.action_space = action_space()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: Seed of the episode; None continues the present random stream.
            options: Not used.

        Returns:
            Observation, and info with ``is_success`` False and ``initial_condition``, see
            `ArmCore.initial_condition`; if the task has instructions, also ``language`` and
            ``privileged``, see `ArmCore.infos`.
        """
        super().reset(seed=seed, options=options)
        observation = self._core.reset(_FIRST, [self.np_random])
        infos = self._core.infos()
        infos |= {"initial_condition": self._core.initial_condition(observation, infos)}
        return _first(observation), {"is_success": False, **_first(infos)}

    def step(
        self, action: NDArray[np.float64]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Advance by one control step of 50 ms.

        Args:
            action: Command `[4]` [unitless, -1 to 1]; values outside are clipped.

        Returns:
            Observation, reward, whether the task is done, False, and info as from `reset`, without
            ``initial_condition``.
        """
        result = self._core.step(np.asarray(action, dtype=np.float64)[None])
        success = bool(result.success[0])
        info = {"is_success": success, **_first(result.infos)}
        return _first(result.observation), float(result.reward[0]), success, False, info

    def render(self) -> Image | None:
        """Return the front camera's image `[480, 480, 3]`, or None without a render mode."""
        return self._core.draw(0) if self.render_mode == "rgb_array" else None

    @property
    def physics_s(self) -> float:
        """Time that stepping the physics has taken so far [s]."""
        return self._core.arms.physics_s

    def close(self) -> None:
        """Free what drawing took; safe to call twice."""
        self._core.close()


def _first(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return the first environment's part of what is batched."""
    return {
        key: _first(value) if isinstance(value, Mapping) else value[0]
        for key, value in batch.items()
    }
