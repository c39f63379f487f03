"""The command ``simscale eval``; light until it runs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from simscaleai_core.cli.quiet import with_quiet
from simscaleai_plugin_gym.commands.env_kwargs import EnvKwargs
from simscaleai_plugin_gym.envs.named_code import search_here
from simscaleai_plugin_gym.executors.choice import LOCAL, choose_executor, with_executor_options
from simscaleai_plugin_gym.options import (
    ENV_TIMEOUT_S,
    check_env_kwargs,
    check_output,
    check_ranges,
)


@with_executor_options
@with_quiet
def evaluate(
    checkpoint: Path,
    /,
    *others: Path,
    env: str | None = None,
    episodes: int = 200,
    seed: int | None = None,
    policy_seed: str = "0",
    workers: int | None = None,
    on: str = LOCAL,
    num_envs: int | None = None,
    vectorization: str | None = None,
    max_steps: int | None = None,
    images: int | None = None,
    env_kwargs: EnvKwargs = None,
    success: str | None = None,
    language: str | None = None,
    execute: int | None = None,
    ensemble: float | None = None,
    source: str | None = None,
    weights: str = "evaluated",
    device: str = "cpu",
    threads: int | None = None,
    video: Path | None = None,
    video_episodes: int = 4,
    failures: Path | None = None,
    env_timeout_s: float = ENV_TIMEOUT_S,
    vary: list[str] | None = None,
    no_control: bool = False,
    gate: str | None = None,
    until: str | None = None,
    margin: float | None = None,
    n_for: str | None = None,
    output: Path | None = None,
    json: bool = False,
    on_options: Mapping[str, Mapping[str, Any]] | None = None,
) -> int:
    """Run a trained policy in closed loop and report how often it succeeds.

    Several checkpoints run the same episodes, and their differences are reported.

    Args:
        checkpoint: Checkpoint file of the policy.
        others: Checkpoint files of other policies, to compare.
        env: Environment: a name that `simscale envs` lists, or a Gymnasium id such as
            module:Door-v0; that of the checkpoint's data if not given.
        episodes: Number of episodes.
        seed: Seed of the first episode; the others follow it. 10000 if not given, and 50000 with
            --failures.
        policy_seed: Seed of the policy's own randomness, for one that samples: another gives other
            episodes. Several, such as 0,1,2, run each episode with each.
        workers: Processes that evaluate side by side, 1 if not given; with another executor, the
            most tasks at a time. The results do not depend on it.
        on: Executor: local (processes on this machine) or that of a plugin, such as ray; the
            results do not depend on it.
        num_envs: Environments that run side by side in each process, at most; the result of a seed
            does not depend on it, but for the rounding of matrix products.
        vectorization: How they run: native (one batch), sync (in turn) or async (in processes);
            native where a plugin declares a batch and sync otherwise if not given.
        max_steps: Longest episode [steps]; needed where the environment has no limit of its own.
        images: Side of the camera images [pixels]; an environment that declares how to show them
            takes it from the policy.
        env_kwargs: Options of the environment, such as --env-kwargs.length 1.5 or, of an option
            that is a table, --env-kwargs.randomize.mass 0.5,2.
        success: What success is: a key of info, or module:function, a function of your own of
            (observation, reward, terminated, truncated, info); the conventions if not given.
        language: Instruction for all episodes, in place of the environment's.
        execute: Steps of a predicted chunk to execute before the next is predicted.
        ensemble: Coefficient of temporal ensembling.
        source: Source of its training data whose units count, for a policy with statistics by
            source.
        weights: evaluated (those that the run's own evaluations used, such as a moving average) or
            trained.
        device: Where the policy computes, such as cuda; auto takes CUDA, then MPS, then CPU.
        threads: Threads that compute on the CPU; torch's choice if not given.
        video: Directory for an mp4 of each of the first episodes, and a contact sheet.
        video_episodes: Number of episodes on video.
        failures: New directory for what failed: how every episode began (conditions.json), the
            failed ones with the policy's actions (failures.h5) and films of the first. The seeds
            may not be those of a report.
        env_timeout_s: Time that the environment may take to be made, for one reset and for one step
            [s]; then the evaluation ends with an error.
        vary: Quantity and its values, such as delay=0,1,2; may be repeated. Every policy runs the
            same episodes under every combination: of delay [steps], observation_noise, action_gain,
            dropped_observations, control_rate, and what the environment declares.
        no_control: Leave out the environment's scripted expert, which runs under the same
            conditions otherwise.
        gate: Bar to reach, such as 'success_rate>=0.95', or 'difference>=-0.02' with two
            checkpoints; exit status 1 if it is missed.
        until: Question at whose answer to stop, looked at after each task of some 25 episodes:
            'success_rate>=0.95', or 'decided' with two checkpoints; then --episodes is the most.
        margin: Difference of two success rates that does not matter: within it, two checkpoints
            count as equal for --until.
        n_for: Difference of two success rates, such as 'difference>=0.05': how many episodes would
            show it with a probability of 80%.
        output: File to write the results to, as JSON.
        json: Print one JSON object instead of a table.
        on_options: Options of the executor.

    Returns:
        Exit status: 0, or 1 if the gate was missed.
    """
    from simscaleai_plugin_gym.commands.checkpoints import evaluate_checkpoints
    from simscaleai_plugin_gym.commands.failures import FailureFolder, first_seed
    from simscaleai_plugin_gym.commands.request import policy_seeds_from_text, read_request
    from simscaleai_plugin_gym.commands.results import report_results
    from simscaleai_plugin_gym.evaluate.evaluation import EvalConfig
    from simscaleai_plugin_gym.evaluate.workers import Evaluation

    checkpoints = (checkpoint, *others)
    request = read_request(
        num_checkpoints=len(checkpoints), episodes=episodes, vary=vary, no_control=no_control,
        gate=gate, until=until, margin=margin, n_for=n_for, failures=failures, video=video,
        video_episodes=video_episodes,
    )  # fmt: skip
    _check(
        env, output, video, num_envs=num_envs, images=images, video_episodes=video_episodes,
        threads=threads, workers=workers,
    )  # fmt: skip
    _compute_with(threads)
    chosen = choose_executor(on, on_options)
    evaluation = Evaluation(
        config=EvalConfig(
            n_episodes=episodes, seed=first_seed(seed, failures), max_steps=max_steps,
            num_envs=num_envs, success=success, language=language, execute=execute,
            ensemble=ensemble, source=source, env_timeout_s=env_timeout_s,
            policy_seed=policy_seeds_from_text(
                policy_seed, num_checkpoints=len(checkpoints), vary=vary, until=until, n_for=n_for,
            ),
        ),
        env=env,
        options=_options(env_kwargs, images),
        vectorization=vectorization,
        weights=weights,
        device=device,
    )  # fmt: skip
    kept = None if failures is None else FailureFolder(
        evaluation, checkpoints, failures, video_episodes, workers, on, on_options
    )  # fmt: skip
    run = partial(evaluate_checkpoints, evaluation, checkpoints, chosen, workers, request)
    return report_results(run, output, kept, as_json=json)


def _check(env: str | None, output: Path | None, video: Path | None, **counts: int | None) -> None:
    """Check names, paths and numbers, before the policy is loaded.

    Raises:
        ConfigError: If one cannot be used.
    """
    from simscaleai_core.errors import ConfigError

    if env is not None and not env.strip():
        raise ConfigError(f"env: expected the name of an environment, got {env!r}")
    if output is not None:
        check_output("output", output)
    if video is not None:
        check_output("video", video, is_folder=True)
    check_ranges(counts)


def _options(env_kwargs: Mapping[str, Any] | None, images: int | None) -> dict[str, Any]:
    given = dict(env_kwargs or {})
    check_env_kwargs(given)
    return given if images is None else {**given, "images": images}


def _compute_with(threads: int | None) -> None:
    """Have torch compute with so many threads, here and in processes that are started."""
    search_here()  # processes look where this one does
    if threads is not None:
        import os

        import torch

        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)
