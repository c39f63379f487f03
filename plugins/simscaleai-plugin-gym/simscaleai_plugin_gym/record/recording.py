"""Recording an expert: episodes by seed, into one HDF5 file, in shards that survive a kill."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen
from simscaleai_plugin_hdf5.writer import EpisodeWriter

from simscaleai_core.errors import ConfigError
from simscaleai_core.host.facade import Host
from simscaleai_plugin_gym.envs.catalog import Expert
from simscaleai_plugin_gym.executors.choice import LOCAL, choose_executor
from simscaleai_plugin_gym.executors.contracts import Executor, Job
from simscaleai_plugin_gym.options import (
    ENV_TIMEOUT_S,
    check_env_kwargs,
    check_output,
    check_ranges,
)
from simscaleai_plugin_gym.record.collector import RecordingSettings
from simscaleai_plugin_gym.record.experts import expert_name, load_expert, source_digest
from simscaleai_plugin_gym.record.shards import EpisodeMetadata, Shard, ShardFolder
from simscaleai_plugin_gym.record.versions import versions_of_env
from simscaleai_plugin_gym.record.workers import RecordingTasks

OnEpisode = Callable[[EpisodeMetadata], None]

SHARD_SIZE = 25
"""Maximum number of episodes in a shard: what a worker may lose when it is killed."""
_ATTEMPTS_PER_SUCCESS = 10
_MIN_SUCCESS_RATE = 0.1
"""Success rate that the number of further attempts assumes at least [fraction]."""


@frozen(kw_only=True)
class Recording:
    """What was recorded."""

    path: Path
    """The file."""
    n_episodes: int
    """Episodes in it, without relabelled ones."""
    n_relabelled: int
    """Relabelled episodes in it."""
    attempts: int
    """Episodes that were run for it."""
    successes: int | None
    """How many of those were successful; None if the environment does not say."""
    env_steps: int
    """Steps in the episodes of the file, without relabelled ones."""
    n_resumed: int
    """Episodes that were there from an earlier, interrupted recording."""


def record_episodes(
    env_name: str,
    path: Path | str,
    *,
    episodes: int,
    seed: int = 0,
    expert: str | Expert | None = None,
    expert_single: bool = False,
    noise: float = 0.0,
    images: int | None = None,
    cameras: Sequence[str] | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    max_steps: int | None = None,
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
    """Record an expert and write its episodes to one file.

    The file depends on the environment, the expert, the seeds and the noise; it does not depend on
    `workers`, `num_envs` or `on`. It appears under its name only when it is complete; until then
    its finished shards are in the folder ``PATH.parts``, and the same call continues from them.

    Args:
        env_name: Name of an environment, or a Gymnasium id.
        path: HDF5 file to write.
        episodes: Number of episodes; their seeds are `seed`, ``seed + 1``, ...
        seed: Seed of the first episode, at least 0.
        expert: A function of the batched observation (each key `[N, ...]`; an observation without
            keys is ``state``) to actions `[N, A]`, or where to import it: ``"module:function"``,
            ``"./file.py:function"``. None for the environment's own.
        expert_single: Whether `expert` handles one observation at a time; see `per_env`.
        noise: Standard deviation of Gaussian noise on the action that is executed [units of
            action, at least 0]; the action that is stored is the expert's own, so that the data
            shows how to come back from where the noise led.
        images: Side of the square camera images to record [pixels], passed to the environment.
        cameras: Cameras to record, passed to the environment.
        env_kwargs: Further options of the environment.
        max_steps: Longest episode [steps]; None leaves that to the environment, and an episode of
            10,000 steps is then an error.
        only_successes: Whether to drop failed episodes and go on until `episodes` succeeded.
        max_attempts: Most episodes to run for that; None for ten times `episodes`.
        relabel: Whether to write each episode under every other instruction as well, with the
            expert's actions for it; the expert must have ``relabelled``.
        overwrite: Whether to replace a file, or shards begun with other settings.
        workers: Processes on this machine (None for one), or the most tasks at a time of another
            executor (None leaves that to it). A function as `expert` must then be importable.
        num_envs: Environments per process; None chooses.
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
        Laskey et al. 2017 (CoRL, DART) for labels without noise under noisy execution.
    """
    path = Path(path)
    numbers = {"episodes": episodes, "seed": seed, "noise": noise, "workers": workers}
    sizes = {"images": images, "num_envs": num_envs, "env_timeout_s": env_timeout_s}
    limits = {"max_steps": max_steps, "max_attempts": max_attempts}
    check_ranges({**numbers, **sizes, **limits})
    check_env_kwargs(env_kwargs or {})
    _check_output(path, overwrite=overwrite)
    options = {"images": images, "cameras": None if cameras is None else tuple(cameras)}
    settings = RecordingSettings(
        env=env_name,
        env_options={k: v for k, v in options.items() if v is not None} | dict(env_kwargs or {}),
        expert=expert,
        expert_single=expert_single,
        noise=noise,
        max_steps=max_steps,
        only_successes=only_successes,
        relabel=relabel,
        num_envs=num_envs,
        env_timeout_s=env_timeout_s,
    )
    if max_attempts is None:
        max_attempts = _ATTEMPTS_PER_SUCCESS * episodes
    seeds = range(seed, seed + (max_attempts if only_successes else episodes))
    executor = choose_executor(on, on_options)
    manifest = _manifest(settings, episodes, seed)
    folder = ShardFolder(path)
    size = max(1, min(SHARD_SIZE, math.ceil(episodes / (workers or 1))))
    with folder.locked():
        size = folder.begin(manifest, size, overwrite=overwrite)
        session = _Session(settings, folder, episodes, seeds, size)
        try:
            workers = workers and max(1, min(workers, session.num_missing()))
            output = path if executor.shares_disk else None
            tasks = RecordingTasks(settings=settings, shard_size=size, output=output)
            with executor.open(_job(tasks, is_here=executor.runs_here(workers)), workers) as pool:
                session.run(pool, on_episode or _ignore)
            return session.merge()
        finally:
            if not session.has_any():
                folder.remove()


class _Session:
    """One recording: which shards it takes, and how they become one file.

    Args:
        settings: What is to be recorded.
        folder: Where the shards are.
        wanted: Episodes that the file is to have.
        seeds: Seeds that may be used for them.
        size: Episodes per shard.
    """

    def __init__(
        self,
        settings: RecordingSettings,
        folder: ShardFolder,
        wanted: int,
        seeds: range,
        size: int,
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._wanted = wanted
        self._seeds = seeds
        self._size = size
        self._num_resumed = 0

    def shards(self, attempts: int) -> list[Shard]:
        """Return the shards that hold that many attempts."""
        starts = range(0, attempts, self._size)
        seeds = [self._seeds[start : start + self._size] for start in starts]
        if self._settings.only_successes:  # whole ones: the limit may be raised later
            first = self._seeds.start
            seeds = [range(first + s, first + s + self._size) for s in starts]
        return [Shard(index=index, seeds=part) for index, part in enumerate(seeds)]

    def has_any(self) -> bool:
        """Return whether any shard is finished."""
        return any(self._folder.is_finished(shard) for shard in self.shards(len(self._seeds)))

    def num_missing(self) -> int:
        """Return how many shards are to be recorded if every episode is kept."""
        return sum(not self._folder.is_finished(shard) for shard in self.shards(self._wanted))

    def run(self, executor: Executor, on_episode: OnEpisode) -> None:
        """Record what is missing.

        Args:
            executor: Where the shards are recorded.
            on_episode: Called with the metadata of each episode.

        Raises:
            ConfigError: If too few episodes succeeded.
        """
        reported: set[int] = set()
        attempts = self._wanted
        while True:
            shards = self.shards(attempts)
            finished = [shard for shard in shards if self._folder.is_finished(shard)]
            for shard in finished:
                if shard.index not in reported:
                    self._report_resumed(shard, on_episode)
            missing = [shard for shard in shards if shard not in finished]
            for index, content in executor.run(missing, on_episode) if missing else ():
                if content is not None:
                    self._folder.add(missing[index], content)
            reported |= {shard.index for shard in shards}
            lacking = self._wanted - sum(bool(each.names) for _, each in self._used(shards))
            if lacking <= 0:
                return
            if attempts >= len(self._seeds):
                raise self._too_few(lacking)
            rate = max((self._wanted - lacking) / attempts, _MIN_SUCCESS_RATE)
            attempts = min(len(self._seeds), attempts + math.ceil(lacking / rate))

    def merge(self) -> Recording:
        """Merge the shards into one file, and remove the folder.

        Returns:
            What was recorded.
        """
        used = list(self._used(self.shards(len(self._seeds))))
        by_shard: dict[int, list[str]] = {}
        for shard, episode in used:
            by_shard.setdefault(shard.index, []).extend(episode.names)
        kept = [episode for _, episode in used if episode.names]
        metadata: dict[str, str | float | int] = {
            "expert": expert_name(self._settings.expert),
            "noise": self._settings.noise,
            "first_seed": self._seeds.start,
            "attempts": len(used),
            **self._folder.env_metadata(used[0][0]),
        }
        output, env = self._folder.output, self._settings.env
        with EpisodeWriter(output, env=env, metadata=metadata) as writer:
            for index, names in by_shard.items():
                if names:
                    writer.append(self._folder.file_of(index), names)
        self._folder.remove()
        known = [episode.success for _, episode in used if episode.success is not None]
        return Recording(
            path=output,
            n_episodes=len(kept),
            n_relabelled=sum(len(episode.names) - 1 for episode in kept),
            attempts=len(used),
            successes=sum(known) if known else None,
            env_steps=sum(episode.length for episode in kept),
            n_resumed=min(self._num_resumed, len(used)),
        )

    def _report_resumed(self, shard: Shard, on_episode: OnEpisode) -> None:
        episodes = self._folder.episodes(shard)
        self._num_resumed += len(episodes)
        for episode in episodes:
            on_episode(episode)

    def _used(self, shards: Sequence[Shard]) -> Iterator[tuple[Shard, EpisodeMetadata]]:
        """Yield the attempts up to the last episode that is wanted, with their shards."""
        kept = 0
        for shard in shards:
            if not self._folder.is_finished(shard):
                return
            for episode in self._folder.episodes(shard):
                if kept == self._wanted or episode.seed not in self._seeds:
                    return
                kept += bool(episode.names)
                yield shard, episode

    def _too_few(self, lacking: int) -> ConfigError:
        first, last = self._seeds.start, self._seeds.stop - 1
        return ConfigError(
            f"the expert {expert_name(self._settings.expert)!r} of {self._settings.env!r} does not "
            f"succeed often enough: expected {self._wanted} successes, got "
            f"{self._wanted - lacking} in {len(self._seeds)} attempts (seeds {first} to {last}). "
            "Fix it, or raise max_attempts (--max-attempts): what was recorded is kept in "
            f"{self._folder.path}."
        )


def _job(tasks: RecordingTasks, *, is_here: bool) -> Job:
    """Return the job of a recording.

    Raises:
        ConfigError: If it cannot be sent to a process, and is to be.
    """
    try:
        if not is_here:
            pickle.dumps(tasks)
    except Exception as error:
        raise ConfigError(
            f"expert or options of {tasks.settings.env!r} cannot be sent to another process: "
            f"{type(error).__name__}: {error}. Name the expert as 'module:function', or use "
            "one worker."
        ) from error
    return Job(
        worker="simscaleai_plugin_gym.record.workers:RecordingWorker",
        settings=tasks,
        done="recorded",
        advice="What is finished is kept; repeat the command to continue, with fewer workers if "
        "memory ran out.",
    )


def _manifest(settings: RecordingSettings, episodes: int, seed: int) -> dict[str, Any]:
    """Return everything that the content of the file depends on, as JSON gives it back."""
    host = Host()
    expert = load_expert(settings.env, settings.expert, single=settings.expert_single, host=host)
    manifest = {
        "env": settings.env,
        "env_kwargs": dict(settings.env_options),
        "expert": expert_name(settings.expert),
        "expert_single": settings.expert_single,
        "episodes": episodes,
        "seed": seed,
        "noise": float(settings.noise),
        "max_steps": settings.max_steps,
        "only_successes": settings.only_successes,
        "relabel": settings.relabel,
        "sha256 of the expert's file": source_digest(expert),
        **{f"version of {k}": v for k, v in versions_of_env(settings.env, host).items()},
    }
    as_read: dict[str, Any] = json.loads(json.dumps(manifest, default=str))
    return as_read


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
