"""One recording: its shards, recorded as far as they are missing, and put together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import frozen
from simscaleai_plugin_hdf5.writer import EpisodeWriter

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_sim.collecting import Plan
from simscaleai_plugin_sim.crew import Crew, OnEpisode
from simscaleai_plugin_sim.experts import expert_name
from simscaleai_plugin_sim.shards import EpisodeFacts, PartsFolder, Shard

_LEAST_RATE = 0.1


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


class Job:
    """One recording: which shards it takes, and what becomes of them.

    Args:
        plan: What is to be recorded.
        folder: Where the shards are.
        wanted: Episodes that the file is to have.
        most: Seeds that may be used for them.
        size: Episodes per shard.
    """

    def __init__(
        self, plan: Plan, folder: PartsFolder, wanted: int, most: range, size: int
    ) -> None:
        self._plan = plan
        self._folder = folder
        self._wanted = wanted
        self._size = size
        self._resumed = 0
        self.most = most
        """Seeds that may be used."""

    def shards(self, attempts: int) -> list[Shard]:
        """Return the shards that hold so many attempts."""
        starts = range(0, attempts, self._size)
        seeds = [self.most[start : start + self._size] for start in starts]
        if self._plan.only_successes:  # whole ones: the limit may be raised later
            first = self.most.start
            seeds = [range(first + s, first + s + self._size) for s in starts]
        return [Shard(index=index, seeds=part) for index, part in enumerate(seeds)]

    def has_any(self) -> bool:
        """Return whether any shard is finished."""
        return any(self._folder.has(shard) for shard in self.shards(len(self.most)))

    def num_missing(self) -> int:
        """Return how many shards are to be recorded if every episode is kept."""
        return sum(not self._folder.has(shard) for shard in self.shards(self._wanted))

    def run(self, crew: Crew, on_episode: OnEpisode) -> None:
        """Record what is missing.

        Args:
            crew: Who records.
            on_episode: Called with the facts of each episode.

        Raises:
            ConfigError: If too few episodes succeeded.
        """
        told: set[int] = set()
        attempts = self._wanted
        while True:
            shards = self.shards(attempts)
            for shard in shards:
                if self._folder.has(shard) and shard.index not in told:
                    found = self._folder.episodes(shard)
                    self._resumed += len(found)
                    for facts in found:
                        on_episode(facts)
            missing = [shard for shard in shards if not self._folder.has(shard)]
            if missing:
                crew.record(missing, on_episode)
            told |= {shard.index for shard in shards}
            lacking = self._wanted - sum(bool(facts.names) for _, facts in self._used(shards))
            if lacking <= 0:
                return
            if attempts >= len(self.most):
                raise self._too_few(lacking)
            rate = max((self._wanted - lacking) / attempts, _LEAST_RATE)
            attempts = min(len(self.most), attempts + math.ceil(lacking / rate))

    def merge(self) -> Recording:
        """Put the shards together, and remove the folder.

        Returns:
            What was recorded.
        """
        used = list(self._used(self.shards(len(self.most))))
        by_shard: dict[int, list[str]] = {}
        for shard, facts in used:
            by_shard.setdefault(shard.index, []).extend(facts.names)
        kept = [facts for _, facts in used if facts.names]
        metadata: dict[str, str | float | int] = {
            "expert": expert_name(self._plan.expert),
            "noise": self._plan.noise,
            "first_seed": self.most.start,
            "attempts": len(used),
            **self._folder.env_facts(used[0][0]),
        }
        with EpisodeWriter(self._folder.output, env=self._plan.env, metadata=metadata) as writer:
            for index, names in by_shard.items():
                if names:
                    writer.append(self._folder.file_of(index), names)
        self._folder.remove()
        known = [facts.success for _, facts in used if facts.success is not None]
        return Recording(
            path=self._folder.output,
            n_episodes=len(kept),
            n_relabelled=sum(len(facts.names) - 1 for facts in kept),
            attempts=len(used),
            successes=sum(known) if known else None,
            env_steps=sum(facts.length for facts in kept),
            n_resumed=min(self._resumed, len(used)),
        )

    def _used(self, shards: Sequence[Shard]) -> Iterator[tuple[Shard, EpisodeFacts]]:
        """Yield the attempts up to the last episode that is wanted, with their shards."""
        kept = 0
        for shard in shards:
            if not self._folder.has(shard):
                return
            for facts in self._folder.episodes(shard):
                if kept == self._wanted or facts.seed not in self.most:
                    return
                kept += bool(facts.names)
                yield shard, facts

    def _too_few(self, lacking: int) -> ConfigError:
        first, last = self.most.start, self.most.stop - 1
        return ConfigError(
            f"the expert {expert_name(self._plan.expert)!r} of {self._plan.env!r} does not succeed "
            f"often enough: expected {self._wanted} successes, got {self._wanted - lacking} in "
            f"{len(self.most)} attempts (seeds {first} to {last}). Mend it, or raise max_attempts "
            f"(--max-attempts): what was recorded is kept in {self._folder.path}."
        )
