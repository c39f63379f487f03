"""An episode as one picture: frames side by side, from the first to the last."""

from __future__ import annotations

from typing import Any

import numpy as np

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_sim.catalog import make_env
from simscaleai_plugin_sim.rendering import Image
from simscaleai_plugin_sim.rollouts import fit_actions

_SHRINK = 2  # every second pixel: a strip of eight frames is then about 2000 pixels wide


def film_strip(env_name: str, policy: Any, *, seed: int, frames: int, **options: Any) -> Image:
    """Run one episode and show evenly spaced moments of it.

    Args:
        env_name: Environment that can draw itself (render mode ``rgb_array``).
        policy: A policy with ``predict``, and perhaps ``reset``.
        seed: Seed of the episode.
        frames: Moments to show, at least 1; fewer if the episode is shorter.
        options: Options of the environment.

    Returns:
        Picture `[H, frames * W, 3]`.

    Raises:
        ConfigError: If the environment draws nothing.
    """
    env = make_env(env_name, render_mode="rgb_array", **options)
    drawn: list[Any] = []
    try:
        observation, _ = env.reset(seed=seed)
        if hasattr(policy, "reset"):
            policy.reset(np.array([True]))
        is_over = False
        while not is_over:
            drawn.append(env.render())
            action = fit_actions(policy.predict(observation), env.action_space)
            observation, _, terminated, truncated, _ = env.step(action)
            is_over = terminated or truncated
        drawn.append(env.render())
    finally:
        env.close()
    if drawn[0] is None:
        raise ConfigError(
            f"environment {env_name!r} draws no frames: expected rgb_array. Leave out frames."
        )
    moments = np.linspace(0, len(drawn) - 1, min(frames, len(drawn))).round().astype(int)
    strip: Image = np.concatenate([drawn[i][::_SHRINK, ::_SHRINK] for i in moments], axis=1)
    return strip
