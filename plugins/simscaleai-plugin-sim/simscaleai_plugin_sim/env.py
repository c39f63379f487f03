"""One arm as a Gymnasium environment."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
from numpy.typing import NDArray

from simscaleai_plugin_sim.core import ArmCore, Observation, action_space
from simscaleai_plugin_sim.rendering import Image
from simscaleai_plugin_sim.tasks import build_task

_FIRST = np.array([0])


class ArmEnv(gymnasium.Env[Observation, NDArray[np.float64]]):
    """One arm at one task; an episode ends when the task is done.

    The same core as `ArmVectorEnv`, with one slot: both give the same numbers, bit for bit. An
    episode depends on its seed and the actions only.

    Args:
        task: Name of the task, such as ``"reach"``.
        images: Side of the square camera image to add as the key ``image`` [pixels], or None.
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
        self, task: str = "reach", *, images: int | None = None, render_mode: str | None = None
    ) -> None:
        self._core = ArmCore(build_task(task), 1, images)
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
            Observation, and info with ``is_success`` False.
        """
        super().reset(seed=seed, options=options)
        self._core.reset(_FIRST, [self.np_random])
        return _first(self._core.observe()), {"is_success": False}

    def step(
        self, action: NDArray[np.float64]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Advance by one control step of 50 ms.

        Args:
            action: Command `[4]` [unitless, -1 to 1]; values outside are clipped.

        Returns:
            Observation, reward, whether the task is done, False, and info with ``is_success``.
        """
        outcome = self._core.step(np.asarray(action, dtype=np.float64)[None])
        success = bool(outcome.success[0])
        info = {"is_success": success}
        return _first(outcome.observation), float(outcome.reward[0]), success, False, info

    def render(self) -> Image | None:
        """Return the front camera's image `[480, 480, 3]`, or None without a render mode."""
        return self._core.draw(0) if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Free what drawing took; safe to call twice."""
        self._core.close()


def _first(observation: Observation) -> Observation:
    return {key: value[0] for key, value in observation.items()}
