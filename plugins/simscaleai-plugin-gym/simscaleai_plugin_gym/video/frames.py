"""An episode drawn frame by frame, and as one picture from the first moment to the last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_gym.envs.adapter import EnvAdapter, adapt_env
from simscaleai_plugin_gym.envs.construction import make_env
from simscaleai_plugin_gym.envs.failures import close_env
from simscaleai_plugin_gym.envs.success import SuccessReader, SuccessRule
from simscaleai_plugin_gym.options import ENV_TIMEOUT_S
from simscaleai_plugin_gym.rollout.instructions import LanguageRule
from simscaleai_plugin_gym.rollout.policy_runner import PolicyRunner
from simscaleai_plugin_gym.rollout.rollouts import StepContext, run_episodes

Frame = NDArray[np.uint8]

_SHRINK = 2  # every second pixel: a strip of eight frames is then about 2000 pixels wide


def episode_frames(
    env: Any,
    predict: Callable[..., Any],
    seed: int,
    *,
    max_steps: int | None = None,
    success: str | SuccessRule | None = None,
    language: str | LanguageRule | None = None,
    env_timeout_s: float = ENV_TIMEOUT_S,
) -> Iterator[tuple[Frame, bool]]:
    """Run one episode and draw it.

    Args:
        env: A single environment with render mode ``rgb_array``.
        predict: Function of an observation to actions, as for `evaluate_policy`.
        seed: Seed of the episode.
        max_steps: Longest episode [steps]; None leaves that to the environment.
        success: As in `EvalConfig`.
        language: As in `EvalConfig`.
        env_timeout_s: As in `EvalConfig`.

    Yields:
        Frames `[H, W, 3]`, the first before the first step, each with whether the episode has been
        successful so far.
    """
    adapter = adapt_env(env, env_timeout_s)
    runner = PolicyRunner(predict, adapter, [seed], language)
    reader = SuccessReader(adapter, success)
    first: list[Frame] = []

    def act(observation: Any, context: StepContext) -> NDArray[Any]:
        if context.starts.any():
            first.append(_draw(env, adapter))
        return runner(observation, context)

    succeeded = False
    for step in run_episodes(adapter, [seed], act, max_steps=max_steps):
        if first:
            yield first.pop(), False
        succeeded |= bool(reader.read(step.transition)[0][0])
        yield _draw(env, adapter), succeeded


def evenly_spaced(frames: Sequence[Frame], moments: int) -> list[Frame]:
    """Return evenly spaced frames, the first and the last among them; all if they are fewer."""
    chosen = np.linspace(0, len(frames) - 1, min(moments, len(frames))).round().astype(int)
    return [frames[index] for index in chosen]


def frame_strip(
    env_name: str,
    policy: Any,
    *,
    seed: int,
    frames: int,
    max_steps: int | None = None,
    env_timeout_s: float = ENV_TIMEOUT_S,
    **options: Any,
) -> Frame:
    """Run one episode and show evenly spaced moments of it.

    Args:
        env_name: Environment that can draw itself (render mode ``rgb_array``).
        policy: A policy with ``predict``, and perhaps ``reset``.
        seed: Seed of the episode.
        frames: Moments to show, at least 1; fewer if the episode is shorter.
        max_steps: Longest episode [steps]; None leaves that to the environment.
        env_timeout_s: As in `EvalConfig`.
        options: Options of the environment.

    Returns:
        Picture `[H, frames * W, 3]`.

    Raises:
        ConfigError: If the environment draws nothing.
    """
    env = make_env(env_name, render_mode="rgb_array", env_timeout_s=env_timeout_s, **options)
    rules: dict[str, Any] = {"max_steps": max_steps, "env_timeout_s": env_timeout_s}
    try:
        drawn = [frame for frame, _ in episode_frames(env, policy.predict, seed, **rules)]
    finally:
        close_env(env, env_name, env_timeout_s)
    small = [frame[::_SHRINK, ::_SHRINK] for frame in evenly_spaced(drawn, frames)]
    strip: Frame = np.concatenate(small, axis=1)
    return strip


def _draw(env: Any, adapter: EnvAdapter) -> Frame:
    """Return the environment's picture.

    Raises:
        ConfigError: If it draws none.
    """
    (frame,) = (None,) if env.render_mode is None else adapter.query("render") or (None,)
    if isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.shape[2:] == (3,):
        return np.ascontiguousarray(frame)
    raise ConfigError(
        f"environment {adapter.name!r} draws no frames: expected uint8 [H, W, 3] from render() in "
        f"render mode 'rgb_array', got {type(frame).__name__}. Leave out videos and frames."
    )
