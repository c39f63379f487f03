"""The command ``simscale record``; light until it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simscaleai_core.cli.quiet import with_quiet
from simscaleai_plugin_gym.commands.env_kwargs import EnvKwargs
from simscaleai_plugin_gym.executors.choice import LOCAL, with_executor_options
from simscaleai_plugin_gym.options import ENV_TIMEOUT_S

if TYPE_CHECKING:
    from simscaleai_plugin_gym.record.session import Recording
    from simscaleai_plugin_gym.record.shards import EpisodeMetadata


@with_executor_options
@with_quiet
def record(
    *,
    env: str | None = None,
    output: Path,
    episodes: int = 200,
    seed: int | None = None,
    like: Path | None = None,
    workers: int | None = None,
    on: str = LOCAL,
    expert: str | None = None,
    expert_single: bool = False,
    policy: Path | None = None,
    labels: str = "expert",
    execute: int | None = None,
    ensemble: float | None = None,
    source: str | None = None,
    policy_seed: int = 0,
    device: str = "cpu",
    noise: float | None = None,
    recommended: bool = False,
    images: int | None = None,
    cameras: str | None = None,
    env_kwargs: EnvKwargs = None,
    max_steps: int | None = None,
    success: str | None = None,
    only_successes: bool = False,
    max_attempts: int | None = None,
    relabel: bool = False,
    overwrite: bool = False,
    num_envs: int | None = None,
    env_timeout_s: float = ENV_TIMEOUT_S,
    json: bool = False,
    on_options: Mapping[str, Mapping[str, Any]] | None = None,
) -> int:
    """Record demonstrations of an expert, or what a policy does, into an HDF5 file.

    A recording that was stopped or killed continues when the command is repeated: what is finished
    is kept in the folder OUTPUT.parts.

    Args:
        env: Environment to record in: a name that `simscale envs` lists, or a Gymnasium id such as
            'module:EnvId-v0'; that of --like or of the policy's data if not given.
        output: HDF5 file to write.
        episodes: Number of episodes.
        seed: Seed of the first episode, the others follow it; 0 if not given. With --like, seed of
            the first candidate; 100000 if not given.
        like: Folder that `simscale eval --failures` wrote: the episodes begin near those that
            failed there. Chosen among 40 candidates an episode, which are only reset.
        workers: Processes that record side by side, 1 if not given; with another executor, the
            most tasks at a time. The file does not depend on it.
        on: Executor: local (processes on this machine) or that of a plugin, such as ray; the file
            does not depend on it.
        expert: Function of the observation to the action, 'module:function' or
            './file.py:function'; the environment's own expert without it.
        expert_single: The expert handles one observation at a time, not a batch.
        policy: Checkpoint file of a policy that acts in the expert's place.
        labels: Whose actions are stored beside a policy: expert (what the expert would do where the
            policy comes to; an episode ends where the expert gives NaN) or policy (its own).
        execute: Steps of a predicted chunk to execute before the policy predicts the next.
        ensemble: Coefficient of the policy's temporal ensembling.
        source: Source of its training data whose units count, for a policy with statistics by
            source.
        policy_seed: Seed of the policy's own randomness, for one that samples.
        device: Where the policy computes, such as cuda.
        noise: Standard deviation of the noise on the executed action, 0 if not given; the stored
            action is clean.
        recommended: Take the noise that the environment recommends, unless some is given.
        images: Side of the camera images to record [pixels].
        cameras: Cameras to record, such as 'top,side'.
        env_kwargs: Options of the environment, such as --env-kwargs.phrasing all or, of an option
            that is a table, --env-kwargs.randomize.mass 0.5,2.
        max_steps: Longest episode [steps]; needed where the environment has no limit of its own.
        success: What success is: a key of info, or module:function, a function of your own of
            (observation, reward, terminated, truncated, info); the conventions if not given.
        only_successes: Drop failed episodes and go on until enough succeeded.
        max_attempts: Most episodes to run for that; ten times as many as wanted without it.
        relabel: Write each episode under every other instruction as well, sharing observations.
        overwrite: Replace the file if it exists, or shards that were begun with other settings.
        num_envs: Environments per process, at most; the file does not depend on it. A policy acts
            in one at a time.
        env_timeout_s: Time that the environment may take to be made, for one reset and for one step
            [s]; then recording ends with an error.
        json: Print one JSON object instead of a table.
        on_options: Options of the executor.

    Returns:
        Exit status.
    """
    from simscaleai_core.cli.output import progress
    from simscaleai_plugin_gym.envs.named_code import search_here
    from simscaleai_plugin_gym.record.recording import record_episodes
    from simscaleai_plugin_gym.rollout.policy_settings import PolicySettings

    search_here()
    _warn_of_another_env(policy, env)
    settings = PolicySettings(
        execute=execute, ensemble=ensemble, source=source, policy_seed=policy_seed, device=device
    )
    with _hint_on_interrupt(output), progress("recording episodes", episodes) as advance:
        recording = record_episodes(
            env,
            output,
            episodes=episodes,
            seed=seed,
            like=like,
            workers=workers,
            expert=expert,
            expert_single=expert_single,
            policy=policy,
            labels=labels,
            policy_settings=settings,
            noise=_recommended_noise(env) if recommended and noise is None else noise or 0.0,
            images=images,
            cameras=None if cameras is None else cameras.split(","),
            env_kwargs=env_kwargs,
            max_steps=max_steps,
            success=success,
            only_successes=only_successes,
            max_attempts=max_attempts,
            relabel=relabel,
            overwrite=overwrite,
            num_envs=num_envs,
            env_timeout_s=env_timeout_s,
            on_episode=_Counter(advance, episodes),
            on=on,
            on_options=on_options,
        )
    return _report(recording, as_json=json)


def _recommended_noise(env: str | None) -> float:
    """Return the noise that an environment recommends for its demonstrations, and say it.

    Raises:
        ConfigError: If it recommends none.
    """
    from simscaleai_core.cli.output import print_note
    from simscaleai_core.errors import ConfigError
    from simscaleai_plugin_gym.envs.catalog import find_declared, spec_of

    declared = find_declared(env) if env else None
    noise = spec_of(declared).recommended_noise if declared else 0.0
    if not noise:
        raise ConfigError(
            f"environment {env!r} recommends no noise: expected --noise, got --recommended. Name "
            "an environment that does, or give the noise itself."
        )
    print_note(f"recommended settings: --noise {noise}")
    return noise


def _warn_of_another_env(policy: Path | None, env: str | None) -> None:
    """Say that a policy acts in another environment than its data was recorded in."""
    if policy is None or env is None or not policy.exists():
        return
    from simscaleai_core.host.facade import Host
    from simscaleai_core.host.registry import load_checkpoint
    from simscaleai_plugin_gym.envs.recorded import warn_of_another_env

    host = Host()
    warn_of_another_env(load_checkpoint(policy, host), policy, env, host, "acts")


class _Counter:
    """Moves progress forward by each episode that is kept, up to the number wanted."""

    def __init__(self, advance: Callable[[], None], wanted: int) -> None:
        self._advance = advance
        self._left = wanted

    def __call__(self, metadata: EpisodeMetadata) -> None:
        if metadata.names and self._left:
            self._left -= 1
            self._advance()


@contextmanager
def _hint_on_interrupt(output: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        from simscaleai_core.cli.output import print_note

        if output.with_name(f"{output.name}.parts").exists():
            print_note("finished episodes are kept; repeat the command to continue")
        raise


def _report(recording: Recording, *, as_json: bool) -> int:
    from simscaleai_core.cli.output import print_facts, print_json

    summary = _summary_of(recording)
    if as_json:
        print_json(summary)
    else:
        print_facts(_readable(summary), title="recorded")
    return 0


def _summary_of(recording: Recording) -> dict[str, Any]:
    from simscaleai_plugin_gym.evaluate.intervals import success_rate

    rate: dict[str, Any] = {"success_rate": None, "success_rate_ci95": None}
    if recording.successes is not None:
        rate = success_rate(recording.successes, recording.attempts)
    origin = {"seeds_from": recording.seeds_from} if recording.seeds_from else {}
    return {
        "env": recording.env,
        "output": str(recording.path),
        "n_episodes": recording.n_episodes,
        "n_relabelled": recording.n_relabelled,
        "attempts": recording.attempts,
        "n_resumed": recording.n_resumed,
        **rate,
        "env_steps": recording.env_steps,
        "bytes": recording.path.stat().st_size,
        **origin,
    }


def _readable(summary: Mapping[str, Any]) -> dict[str, str]:
    """Return values as text, numbers with at most three decimals."""
    from simscaleai_plugin_gym.commands.results import text_of

    return {k: "not known" if value is None else text_of(value) for k, value in summary.items()}
