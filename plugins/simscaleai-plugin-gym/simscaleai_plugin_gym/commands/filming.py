"""The videos of ``simscale eval``: tried before the evaluation, and made after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from simscaleai_core.cli.output import waiting
from simscaleai_core.errors import ConfigError, SimScaleError
from simscaleai_core.host.facade import Host
from simscaleai_plugin_gym.commands.request import Request
from simscaleai_plugin_gym.commands.sides import Pool, Side
from simscaleai_plugin_gym.envs.construction import make_env
from simscaleai_plugin_gym.evaluate.workers import Evaluation
from simscaleai_plugin_gym.rollout.policy_runner import Predict
from simscaleai_plugin_gym.video.frames import check_drawing
from simscaleai_plugin_gym.video.video import CONTACT_SHEET, Video, record_videos

_FOLDERS = ("first", "second")


def check_filming(side: Side, evaluation: Evaluation, request: Request) -> None:
    """Draw one picture, if videos are wanted.

    Args:
        side: The policy, and where it is evaluated.
        evaluation: Episodes and settings.
        request: Says whether videos are wanted.

    Raises:
        ConfigError: If it cannot be drawn.
    """
    if request.video is None:
        return
    config = evaluation.config
    build, first = _drawn(side.env, side.options, config.env_timeout_s), config.episode_seeds[0]
    try:
        check_drawing(build, side.env, first, config.env_timeout_s)
    except SimScaleError as error:
        raise ConfigError(
            f"video {str(request.video)!r} cannot be made: {str(error).rstrip('.')}. Leave out "
            "--video to evaluate without."
        ) from error


@waiting("making the videos")
def film(
    side: Side, evaluation: Evaluation, pool: Pool, request: Request, count: int
) -> dict[str, Any]:
    """Run the first episodes of a policy again, and film them.

    Args:
        side: The policy, and where it is evaluated.
        evaluation: Episodes and settings.
        pool: Has the policy.
        request: Which videos are wanted.
        count: Policies that are evaluated.

    Returns:
        ``videos``, each with ``file``, ``seed`` and ``success``, and ``contact_sheet``; nothing if
        none are wanted.
    """
    if request.video is None:
        return {}
    folder = _FOLDERS[side.index] if count == 2 else f"policy_{side.index + 1}"
    directory = request.video / (folder if count > 1 else "")
    seeds = evaluation.config.episode_seeds[: request.video_episodes]
    predict = pool.worker.policy(side.index).predict
    videos = videos_of(evaluation, side.env, side.options, predict, directory, seeds)
    shown = [{"file": str(v.path), "seed": v.seed, "success": v.success} for v in videos]
    return {"videos": shown, "contact_sheet": str(directory / CONTACT_SHEET)}


def videos_of(
    evaluation: Evaluation,
    env: str,
    options: Mapping[str, Any],
    predict: Predict,
    directory: Path,
    seeds: Sequence[int],
) -> list[Video]:
    """Run episodes of an evaluation again, as they were run, and film them.

    Args:
        evaluation: Settings.
        env: Name of the environment.
        options: What it is built with.
        predict: Method of the policy.
        directory: Where the videos go.
        seeds: Seeds of the episodes.

    Returns:
        The videos, in order of seeds.
    """
    config, own = evaluation.config, evaluation.policy_settings
    return record_videos(
        _drawn(env, options, config.env_timeout_s),
        predict,
        directory,
        seeds,
        success=config.success,
        language=own.language,
        policy_seed=own.policy_seed,
        max_steps=config.max_steps,
        env_timeout_s=config.env_timeout_s,
    )


def _drawn(env: str, options: Mapping[str, Any], limit_s: float) -> Callable[[], Any]:
    drawn = {**options, "render_mode": "rgb_array", "host": Host()}
    return lambda: make_env(env, env_timeout_s=limit_s, **drawn)
