"""Recording an expert or a policy: one episode a seed, into one HDF5 file, in shards."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from simscaleai_core.errors import ConfigError
from simscaleai_core.host.facade import Host
from simscaleai_plugin_gym.envs.catalog import Expert
from simscaleai_plugin_gym.envs.recorded import is_same_env, recorded_env
from simscaleai_plugin_gym.envs.success import SuccessRule
from simscaleai_plugin_gym.executors.choice import LOCAL, ExecutorChoice, choose_executor
from simscaleai_plugin_gym.options import (
    ENV_TIMEOUT_S,
    check_env_kwargs,
    check_output,
    check_ranges,
)
from simscaleai_plugin_gym.record.collector import EXPERT, LABELS, POLICY, RecordingSettings
from simscaleai_plugin_gym.record.failures import Failures, read_failures
from simscaleai_plugin_gym.record.manifest import manifest_of
from simscaleai_plugin_gym.record.seeds import plan_seeds
from simscaleai_plugin_gym.record.session import OnEpisode, Recording, Session, job_of
from simscaleai_plugin_gym.record.shards import EpisodeMetadata, ShardFolder
from simscaleai_plugin_gym.record.workers import RecordingTasks
from simscaleai_plugin_gym.rollout.policy_settings import PolicySettings, num_threads

SHARD_SIZE = 25
"""Maximum number of episodes in a shard: what a worker may lose when it is killed."""
_ATTEMPTS_PER_SUCCESS = 10


def record_episodes(
    env_name: str | None,
    path: Path | str,
    *,
    episodes: int,
    seed: int | None = None,
    seeds: Sequence[int] | None = None,
    like: Path | str | None = None,
    expert: str | Expert | None = None,
    expert_single: bool = False,
    policy: Path | str | None = None,
    policy_settings: PolicySettings | None = None,
    labels: str = EXPERT,
    noise: float = 0.0,
    images: int | None = None,
    cameras: Sequence[str] | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    max_steps: int | None = None,
    success: str | SuccessRule | None = None,
    only_successes: bool = False,
    max_attempts: int | None = None,
    relabel: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
    num_envs: int | None = None,
    env_timeout_s: float = ENV_TIMEOUT_S,
    on_episode: Callable[[EpisodeMetadata], None] | None = None,
    on: str = LOCAL,
    on_options: Mapping[str, Mapping[str, Any]] | None = None,
) -> Recording:
    """Record an expert or a policy and write the episodes to one file.

    The file depends on the environment, the expert, the policy, the seeds and the noise; it does
    not depend on `workers`, `num_envs` or `on`. It appears under its name only when it is complete;
    until then its finished shards are in the folder ``PATH.parts``, and the same call continues
    from them.

    Args:
        env_name: Name of an environment, or a Gymnasium id; None for that of `like`, or of the
            policy's data.
        path: HDF5 file to write.
        episodes: Number of episodes; their seeds are `seed`, ``seed + 1``, ...
        seed: Seed of the first episode, at least 0; with `like`, of the first candidate. None for
            0, and for 100,000 with `like`.
        seeds: Seed of each episode, each at most once; they replace `seed`. As many as episodes,
            or at least as many with `only_successes`.
        like: Folder of an evaluation's failures (``simscale eval --failures``): the episodes begin
            near those that failed. Of 40 candidates for each episode, which are only reset, those
            are recorded whose initial conditions are nearest to a failure's, every failure in turn.
            Options of the environment are those of the evaluation unless `env_kwargs` says
            otherwise.
        expert: A function of the batched observation (each key `[N, ...]`; an observation without
            keys is ``state``) to actions `[N, A]`, or where to import it: ``"module:function"``,
            ``"./file.py:function"``. None for the environment's own.
        expert_single: Whether `expert` handles one observation at a time; see `per_env`.
        policy: Checkpoint of a policy that acts in the expert's place.
        policy_settings: What is chosen for the policy, such as its device; None leaves all to the
            checkpoint.
        labels: Whose actions are stored beside a policy: ``"expert"`` for what the expert would do
            on each observation that the policy comes to, without noise (an expert may give NaN
            where it does not know: the episode then ends there); or ``"policy"``.
        noise: Standard deviation of Gaussian noise on the action that is executed [units of
            action, at least 0]; the action that is stored is without it, so that the data
            shows how to come back from where the noise led.
        images: Side of the square camera images to record [pixels], passed to the environment.
        cameras: Cameras to record, passed to the environment.
        env_kwargs: Further options of the environment.
        max_steps: Longest episode [steps]; None leaves that to the environment, and an episode of
            10,000 steps is then an error.
        success: What success is: a key of info, a function of ``(observation, reward, terminated,
            truncated, info)``, or its name ``"module:function"``; None follows the conventions.
        only_successes: Whether to drop failed episodes and go on until `episodes` succeeded.
        max_attempts: Most episodes to run for that; None for ten times `episodes`.
        relabel: Whether to write each episode under every other instruction as well, with the
            expert's actions for it; the expert must have ``relabelled``.
        overwrite: Whether to replace a file, or shards begun with other settings.
        workers: Processes on this machine (None for one), or the most tasks at a time of another
            executor (None leaves that to it). A function as `expert` must then be importable.
        num_envs: Environments per process, at most; None chooses. A policy acts in one at a time.
        env_timeout_s: Time that an environment may take to be made, for one reset and for one step
            [s].
        on_episode: Called with the metadata of each episode once it is recorded; those of an
            earlier, interrupted recording come first. Order of seeds if there is one worker.
        on: Executor that runs the tasks, such as ``"ray"``; its plugin must be installed.
        on_options: Options of executors, by executor and option.

    Returns:
        What was recorded.

    Raises:
        ConfigError: If an argument cannot be used, the file exists, or too few episodes succeeded.
        EnvError: If an environment raises, hangs, or gives what is no result; with its name, the
            seed and the step. What is finished is kept.

    Source:
        Laskey et al. 2017 (CoRL, DART) for labels without noise under noisy execution; Ross et al.
        2011 (AISTATS, DAgger) for an expert's labels of what a policy visits.
    """
    path = Path(path)
    numbers = {"episodes": episodes, "seed": seed, "noise": noise, "workers": workers}
    sizes = {"images": images, "num_envs": num_envs, "env_timeout_s": env_timeout_s}
    limits = {"max_steps": max_steps, "max_attempts": max_attempts}
    check_ranges({**numbers, **sizes, **limits})
    check_env_kwargs(env_kwargs or {})
    _check_output(path, overwrite=overwrite)
    failures = None if like is None else read_failures(Path(like))
    shown = {"images": images, "cameras": None if cameras is None else tuple(cameras)}
    options = {**{k: v for k, v in shown.items() if v is not None}, **(env_kwargs or {})}
    checkpoint = None if policy is None else Path(policy)
    settings = RecordingSettings(
        env=_named_env(env_name, failures, checkpoint),
        env_options={**failures.env_kwargs, **options} if failures else options,
        expert=expert,
        expert_single=expert_single,
        policy=checkpoint,
        policy_settings=policy_settings or PolicySettings(),
        labels=labels,
        success=success,
        noise=noise,
        max_steps=max_steps,
        only_successes=only_successes,
        relabel=relabel,
        num_envs=num_envs,
        env_timeout_s=env_timeout_s,
    )
    _check_labels(settings)
    attempts = (max_attempts or _ATTEMPTS_PER_SUCCESS * episodes) if only_successes else episodes
    plan = plan_seeds(settings, episodes, attempts, seed=seed, seeds=seeds, failures=failures)
    folder, chosen = ShardFolder(path), choose_executor(on, on_options)
    manifest = manifest_of(settings, episodes, plan.seeds)
    size = max(1, min(SHARD_SIZE, math.ceil(episodes / (workers or 1))))
    with folder.locked():
        size = folder.begin(manifest, size, overwrite=overwrite)
        session = Session(settings, folder, episodes, plan, size)
        return _run(session, settings, size, chosen, workers, on_episode or _ignore)


def _run(
    session: Session,
    settings: RecordingSettings,
    size: int,
    chosen: ExecutorChoice,
    workers: int | None,
    on_episode: OnEpisode,
) -> Recording:
    """Record what is missing, and merge; leave no folder behind that holds nothing."""
    try:
        workers = workers and max(1, min(workers, session.num_missing()))
        is_here = chosen.runs_here(workers)
        tasks = RecordingTasks(
            settings=settings,
            shard_size=size,
            output=session.output if chosen.shares_disk else None,
            threads=None if is_here or settings.policy is None else num_threads(),
        )
        with chosen.open(job_of(tasks, is_here=is_here), workers) as pool:
            session.run(pool, on_episode)
        return session.merge()
    finally:
        session.clean()


def _named_env(name: str | None, failures: Failures | None, checkpoint: Path | None) -> str:
    """Return the environment to record in: as named, of the failures, or of the policy's data.

    Raises:
        ConfigError: If there is none, or it is not that of the failures.
    """
    host = Host()
    if failures is not None:
        if name is not None and not is_same_env(name, failures.env, host):
            raise ConfigError(
                f"like {str(failures.folder)!r}: expected failures in {name!r}, got some in "
                f"{failures.env!r}. Leave the environment out, or evaluate there."
            )
        return name or failures.env
    if name is not None:
        return name
    if checkpoint is None:
        raise ConfigError(
            "env: expected the name of an environment, got none. Name it with --env; 'simscale "
            "envs' lists those of plugins."
        )
    from simscaleai_core.host.registry import load_checkpoint

    return recorded_env(load_checkpoint(checkpoint, host), checkpoint)


def _check_labels(settings: RecordingSettings) -> None:
    """Check whose actions are to be stored.

    Raises:
        ConfigError: If nobody's, or an expert has nothing to do, or something is chosen for a
            policy that is not there.
    """
    labels, policy = settings.labels, settings.policy
    if labels not in LABELS:
        raise ConfigError(f"labels: expected one of {', '.join(LABELS)}, got {labels!r}")
    if policy is not None and not policy.exists():
        raise ConfigError(f"policy {str(policy)!r}: expected a checkpoint, got no such file")
    if policy is None and (chosen := settings.policy_settings.chosen()):
        raise ConfigError(
            f"{next(iter(chosen))}: expected a policy with it, got none. Name it with --policy."
        )
    if labels != POLICY:
        return
    if policy is None:
        raise ConfigError(f"labels {labels!r}: expected a policy, got none. Name it with --policy.")
    given = {"expert": settings.expert is not None, "relabel": settings.relabel}
    wrong = [name for name, is_given in given.items() if is_given]
    if wrong:
        raise ConfigError(
            f"labels {labels!r}: expected no {wrong[0]}, for no expert is asked. Leave it out, or "
            f"store the expert's actions (labels {EXPERT!r})."
        )


def _ignore(episode: EpisodeMetadata) -> None:
    """Do nothing."""


def _check_output(path: Path, *, overwrite: bool) -> None:
    """Check where the file is to go, before anything is recorded.

    Raises:
        ConfigError: If something is there.
    """
    check_output("output", path)
    if path.exists() and not overwrite:
        raise ConfigError(
            f"output {str(path)!r} exists already: expected a new file. Choose another name, or "
            "pass --overwrite (overwrite=True) to replace it."
        )
