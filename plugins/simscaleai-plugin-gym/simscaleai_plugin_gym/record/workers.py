"""The worker that records: it has an environment of its own and writes shard after shard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
from attrs import frozen

from simscaleai_plugin_gym.executors.contracts import Report
from simscaleai_plugin_gym.record.collector import Collector, RecordingSettings
from simscaleai_plugin_gym.record.shards import Shard, ShardContent, ShardFolder


@frozen(kw_only=True)
class RecordingTasks:
    """What the tasks of a recording have in common."""

    settings: RecordingSettings
    """What is to be recorded."""
    shard_size: int
    """Episodes per shard, at most."""
    output: Path | None
    """The file that is to be made, beside which the shards go; None to return their content."""
    threads: int | None = None
    """Threads that a policy computes with, as in the command's own process; None leaves them."""


class RecordingWorker:
    """Records shards; its environment is made for the first.

    Args:
        tasks: What they have in common.
        files: The policy's checkpoint, if one acts.
    """

    def __init__(self, tasks: RecordingTasks, files: Sequence[Path] = ()) -> None:
        if files:
            settings = attrs.evolve(tasks.settings, policy=files[0])
            tasks = attrs.evolve(tasks, settings=settings)
        self._tasks = tasks
        self._collector: Collector | None = None

    def run(self, task: Shard, report: Report) -> ShardContent | None:
        """Record a shard.

        Args:
            task: Which.
            report: Called with the `EpisodeMetadata` of each episode.

        Returns:
            Its content if no folder is given; None otherwise, for it is there then.
        """
        if self._tasks.output is not None:
            self._write(task, ShardFolder(self._tasks.output), report)
            return None
        with TemporaryDirectory(prefix="simscale-record-") as place:
            folder = ShardFolder(Path(place) / "shards.h5")
            folder.path.mkdir()
            self._write(task, folder, report)
            return folder.content(task)

    def close(self) -> None:
        """Close the environment."""
        if self._collector is not None:
            self._collector.close()

    def _write(self, shard: Shard, folder: ShardFolder, report: Report) -> None:
        settings = self._tasks.settings
        if self._collector is None:
            if self._tasks.threads is not None:
                import torch

                torch.set_num_threads(self._tasks.threads)
            self._collector = Collector(settings, self._tasks.shard_size)
        folder.write(
            shard,
            self._collector.collect(shard.seeds),
            self._collector.metadata,
            only_successes=settings.only_successes,
            on_episode=report,
        )
