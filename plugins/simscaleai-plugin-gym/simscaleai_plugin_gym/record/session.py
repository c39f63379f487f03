"""One recording: its shards are recorded, and merged into one file."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from attrs import frozen
from simscaleai_plugin_hdf5.writer import EpisodeWriter

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_gym.envs.observations import Metadata
from simscaleai_plugin_gym.executors.contracts import Executor, Job
from simscaleai_plugin_gym.record.collector import EXPERT, RecordingSettings
from simscaleai_plugin_gym.record.experts import expert_name
from simscaleai_plugin_gym.record.seeds import SeedPlan
from simscaleai_plugin_gym.record.shards import EpisodeMetadata, Shard, ShardFolder
from simscaleai_plugin_gym.record.workers import RecordingTasks

OnEpisode = Callable[[EpisodeMetadata], None]

_MIN_SUCCESS_RATE = 0.1
"""Success rate that the number of further attempts assumes at least [fraction]."""


@frozen(kw_only=True)
class Recording:
    """What was recorded."""

    path: Path
    """The file."""
    env: str
    """Name of the environment."""
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
    seeds_from: str = ""
    """Where the seeds come from, in words; empty if they follow each other."""


class Session:
    """One recording: which shards it takes, and how they become one file.

    Args:
        settings: What is to be recorded.
        folder: Where the shards are.
        wanted: Episodes that the file is to have.
        plan: Seeds that may be used for them.
        size: Episodes per shard.
    """

    def __init__(
        self,
        settings: RecordingSettings,
        folder: ShardFolder,
        wanted: int,
        plan: SeedPlan,
        size: int,
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._wanted = wanted
        self._seeds = plan.seeds
        self._origin = plan.origin
        self._size = size
        self._num_resumed = 0

    def shards(self, attempts: int) -> list[Shard]:
        """Return the shards that hold that many attempts."""
        starts, seeds = range(0, attempts, self._size), self._seeds
        if self._settings.only_successes and isinstance(seeds, range):
            # Whole ones: the limit may be raised later.
            seeds = range(seeds.start, seeds.start + len(starts) * self._size)
        parts = [seeds[start : start + self._size] for start in starts]
        return [Shard(index=index, seeds=part) for index, part in enumerate(parts)]

    @property
    def output(self) -> Path:
        """The file that is to be made."""
        return self._folder.output

    def clean(self) -> None:
        """Remove the folder if no shard in it is finished."""
        if not any(self._folder.is_finished(s) for s in self.shards(len(self._seeds))):
            self._folder.remove()

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
        metadata = {**self._about(len(used)), **self._folder.env_metadata(used[0][0])}
        output, env = self._folder.output, self._settings.env
        with EpisodeWriter(output, env=env, metadata=metadata) as writer:
            for index, names in by_shard.items():
                if names:
                    writer.append(self._folder.file_of(index), names)
        self._folder.remove()
        known = [episode.success for _, episode in used if episode.success is not None]
        return Recording(
            path=output,
            env=env,
            n_episodes=len(kept),
            n_relabelled=sum(len(episode.names) - 1 for episode in kept),
            attempts=len(used),
            successes=sum(known) if known else None,
            env_steps=sum(episode.length for episode in kept),
            n_resumed=min(self._num_resumed, len(used)),
            seeds_from=self._origin,
        )

    def _about(self, attempts: int) -> Metadata:
        """Return what the file says of how it was recorded."""
        settings, about = self._settings, Metadata()
        if settings.labels == EXPERT:
            about["expert"] = expert_name(settings.expert)
        if settings.policy is not None:
            about |= {"policy": str(settings.policy), "labels": settings.labels}
        about |= {"noise": settings.noise, "first_seed": self._seeds[0], "attempts": attempts}
        return about | ({"seeds_from": self._origin} if self._origin else {})

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
        settings, seeds = self._settings, self._seeds
        if settings.policy is None:
            who, remedy = f"expert {expert_name(settings.expert)!r}", "Fix it"
        else:
            who, remedy = f"policy {str(settings.policy)!r}", "Take another one"
        return ConfigError(
            f"the {who} of {settings.env!r} does not succeed often enough: expected "
            f"{self._wanted} successes, got {self._wanted - lacking} in {len(seeds)} attempts "
            f"(seeds {seeds[0]} to {seeds[-1]}). {remedy}, or raise max_attempts (--max-attempts): "
            f"what was recorded is kept in {self._folder.path}."
        )


def job_of(tasks: RecordingTasks, *, is_here: bool) -> Job:
    """Return the job of a recording.

    Args:
        tasks: What its tasks have in common.
        is_here: Whether they run in this process.

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
        files=() if tasks.settings.policy is None else (tasks.settings.policy,),
        done="recorded",
        advice="What is finished is kept; repeat the command to continue, with fewer workers if "
        "memory ran out.",
    )
