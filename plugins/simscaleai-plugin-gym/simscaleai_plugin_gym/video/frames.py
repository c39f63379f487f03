"""An episode drawn frame by frame, and as one picture from the first moment to the last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_gym.envs.adapter import EnvAdapter, adapt_env
from simscaleai_plugin_gym.envs.construction import make_env
from simscaleai_plugin_gym.envs.failures import close_env
from simscaleai_plugin_gym.envs.success import SuccessReader, SuccessRule
from simscaleai_plugin_gym.options import ENV_TIMEOUT_S
from simscaleai_plugin_gym.rollout.disturbances import Disturbances, disturbed
from simscaleai_plugin_gym.rollout.instructions import LanguageRule
from simscaleai_plugin_gym.rollout.policy_runner import PolicyRunner
from simscaleai_plugin_gym.rollout.rollouts import StepContext, run_episodes

Frame = NDArray[np.uint8]

DEFAULT_FPS = 30
"""Frames per second where the environment's metadata has no ``render_fps``."""

_GIF_SIDE = 200  # longer side of a GIF [pixels]
_MOST_FRAMES = 100
_LEAST_MS = 20  # browsers slow down what is faster [ms]
_SHRINK = 2  # every second pixel: a strip of eight frames is then about 2000 pixels wide


def episode_frames(
    env: Any,
    predict: Callable[..., Any],
    seed: int,
    *,
    max_steps: int | None = None,
    success: str | SuccessRule | None = None,
    language: str | LanguageRule | None = None,
    policy_seed: int = 0,
    disturbances: Disturbances | None = None,
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
        policy_seed: Seed of the policy's own randomness.
        disturbances: As in `EvalConfig`; None for none.
        env_timeout_s: As in `EvalConfig`.

    Yields:
        Frames `[H, W, 3]`, the first before the first step, each with whether the episode has been
        successful so far.
    """
    adapter = disturbed(adapt_env(env, env_timeout_s), disturbances or Disturbances())
    runner = PolicyRunner(predict, adapter, [seed], language, [policy_seed])
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


def check_drawing(build: Callable[[], Any], env_name: str, seed: int, limit_s: float) -> None:
    """Check that an environment can draw itself: it is made, begins an episode, and draws it.

    Args:
        build: Builds the environment, with render mode ``rgb_array``.
        env_name: Its name.
        seed: Seed of the episode.
        limit_s: Time that one call of it may take [s].
    """
    env = build()
    try:
        adapter = adapt_env(env, limit_s)
        adapter.reset([seed], np.ones(1, dtype=np.bool_))
        _draw(env, adapter)
    finally:
        close_env(env, env_name, limit_s)


def evenly_spaced(frames: Sequence[Frame], moments: int) -> list[Frame]:
    """Return evenly spaced frames, the first and the last among them; all if they are fewer."""
    chosen = np.linspace(0, len(frames) - 1, min(moments, len(frames))).round().astype(int)
    return [frames[index] for index in chosen]


def drawn_episode(
    env_name: str,
    policy: Any,
    *,
    seed: int,
    max_steps: int | None = None,
    env_timeout_s: float = ENV_TIMEOUT_S,
    **options: Any,
) -> tuple[list[Frame], float]:
    """Run one episode and draw it.

    Args:
        env_name: Environment that can draw itself (render mode ``rgb_array``).
        policy: A policy with ``predict``, and perhaps ``reset``.
        seed: Seed of the episode.
        max_steps: Longest episode [steps]; None leaves that to the environment.
        env_timeout_s: As in `EvalConfig`.
        options: Options of the environment.

    Returns:
        Its frames `[H, W, 3]`, and how many make a second [Hz].

    Raises:
        ConfigError: If the environment draws nothing.
    """
    env = make_env(env_name, render_mode="rgb_array", env_timeout_s=env_timeout_s, **options)
    rules: dict[str, Any] = {"max_steps": max_steps, "env_timeout_s": env_timeout_s}
    try:
        drawn = [frame for frame, _ in episode_frames(env, policy.predict, seed, **rules)]
    finally:
        close_env(env, env_name, env_timeout_s)
    return drawn, float(env.metadata.get("render_fps") or DEFAULT_FPS)


def strip_of(frames: Sequence[Frame], moments: int) -> Frame:
    """Show evenly spaced moments of an episode side by side.

    Args:
        frames: Its frames `[H, W, 3]`.
        moments: How many to show, at least 1; fewer if there are fewer frames.

    Returns:
        Picture `[H / 2, moments * W / 2, 3]`.
    """
    small = [frame[::_SHRINK, ::_SHRINK] for frame in evenly_spaced(frames, moments)]
    strip: Frame = np.concatenate(small, axis=1)
    return strip


def gif_of(frames: Sequence[Frame], fps: float) -> bytes:
    """Make a short video of an episode, as small as a chart: a GIF that plays at its own speed.

    Args:
        frames: Its frames `[H, W, 3]`; a hundred of them are shown if there are more.
        fps: How many make a second [Hz].

    Returns:
        The GIF file.
    """
    chosen = [Picture.fromarray(frame) for frame in evenly_spaced(frames, _MOST_FRAMES)]
    for picture in chosen:
        picture.thumbnail((_GIF_SIDE, _GIF_SIDE))
    duration_ms = max(_LEAST_MS, round(1000 * len(frames) / fps / len(chosen)))
    file = BytesIO()
    chosen[0].save(
        file, "GIF", save_all=True, append_images=chosen[1:], duration=duration_ms, loop=0
    )
    return file.getvalue()


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
