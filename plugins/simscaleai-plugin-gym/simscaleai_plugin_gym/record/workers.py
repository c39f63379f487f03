"""The workers that record: each has an environment of its own and writes shards of its own."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Protocol, Self

from simscaleai_core.errors import ConfigError, SimScaleError
from simscaleai_plugin_gym.envs.processes import end_with_parent, exit_text, interrupts_ignored
from simscaleai_plugin_gym.record.collector import Collector, RecordingSettings
from simscaleai_plugin_gym.record.shards import EpisodeMetadata, Shard, ShardFolder

OnEpisode = Callable[[EpisodeMetadata], None]

_DONE = None


class RecordingError(SimScaleError):
    """A process that recorded has died."""


class Workers(Protocol):
    """One or several workers."""

    def record(self, shards: Sequence[Shard], on_episode: OnEpisode) -> None:
        """Record shards, and report each episode as it is done."""
        ...

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(self, *exc: object) -> None:
        """End, whatever is still running."""
        ...


class InProcessWorkers:
    """One worker, in this process.

    Args:
        settings: What is to be recorded.
        folder: Where the shards go.
    """

    def __init__(self, settings: RecordingSettings, folder: ShardFolder) -> None:
        self._settings = settings
        self._folder = folder
        self._collector: Collector | None = None

    def record(self, shards: Sequence[Shard], on_episode: OnEpisode) -> None:
        """Record shards, and report each episode as it is done."""
        self._collector = self._collector or Collector(self._settings)
        _record(self._collector, self._settings, self._folder, shards, on_episode)

    def __enter__(self) -> Self:
        """Return this."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the environment."""
        if self._collector is not None:
            self._collector.close()


class ProcessWorkers:
    """Several workers, each in a process.

    Args:
        settings: What is to be recorded.
        folder: Where the shards go.
        num_workers: Number of processes.

    Raises:
        ConfigError: If the settings cannot be sent to a process.
    """

    def __init__(self, settings: RecordingSettings, folder: ShardFolder, num_workers: int) -> None:
        # spawn: a forked child would share the parent's threads and OpenGL state.
        context = get_context("spawn")
        try:
            pickle.dumps(settings)
        except Exception as error:
            raise ConfigError(
                f"expert or options of {settings.env!r} cannot be sent to another process: "
                f"{type(error).__name__}: {error}. Name the expert as 'module:function', or use "
                "one worker."
            ) from error
        self._processes: dict[Connection, BaseProcess] = {}
        with interrupts_ignored():
            for _ in range(num_workers):
                ours, theirs = context.Pipe()
                process = context.Process(
                    target=_work, args=(theirs, settings, folder), daemon=True
                )
                process.start()
                theirs.close()
                self._processes[ours] = process

    def record(self, shards: Sequence[Shard], on_episode: OnEpisode) -> None:
        """Record shards, and report each episode as it is done.

        Raises:
            RecordingError: If a process died.
        """
        busy = list(self._processes)[: len(shards)]
        for number, connection in enumerate(busy):
            with suppress(BrokenPipeError):  # the reason is read below
                connection.send(shards[number :: len(busy)])
        while busy:
            ready = wait(busy)
            for connection in [each for each in busy if each in ready]:
                message = self._receive(connection)
                if message is _DONE:
                    busy.remove(connection)
                else:
                    on_episode(message)

    def __enter__(self) -> Self:
        """Return this."""
        return self

    def __exit__(self, *exc: object) -> None:
        """End the processes."""
        for process in self._processes.values():
            process.terminate()
        for connection, process in self._processes.items():
            process.join()
            process.close()
            connection.close()

    def _receive(self, connection: Connection) -> EpisodeMetadata | None:
        """Return what a process sent.

        Raises:
            RecordingError: If it died.
        """
        try:
            message = connection.recv()
        except (EOFError, ConnectionError):
            process = self._processes[connection]
            process.join()
            raise RecordingError(
                f"a process that recorded died: expected it to finish, got {exit_text(process)}. "
                "What is finished is kept; repeat the command to continue, with fewer workers if "
                "memory ran out."
            ) from None
        if isinstance(message, _WorkerError):
            raise message.error from message
        metadata: EpisodeMetadata | None = message
        return metadata


class _WorkerError(Exception):
    """An error in another process, with its traceback as text."""

    def __init__(self, error: Exception, text: str) -> None:
        super().__init__(error, text)
        self.error = error
        self._text = text

    def __str__(self) -> str:
        return f"\n{self._text}"


def _work(connection: Connection, settings: RecordingSettings, folder: ShardFolder) -> None:
    """Record shards as they are sent until there are no more; the body of a process."""
    end_with_parent()
    try:
        collector = Collector(settings)
        while True:
            shards = connection.recv()
            _record(collector, settings, folder, shards, connection.send)
            connection.send(_DONE)
    except (EOFError, ConnectionError):
        return  # the parent is gone
    except Exception as error:  # noqa: BLE001 - raised again in the parent
        text = traceback.format_exc()
        connection.send(_WorkerError(_portable(error), text))


def _record(
    collector: Collector,
    settings: RecordingSettings,
    folder: ShardFolder,
    shards: Sequence[Shard],
    on_episode: OnEpisode,
) -> None:
    # One stream for all shards: environments idle only at the end of the last one.
    episodes = collector.collect([seed for shard in shards for seed in shard.seeds])
    for shard in shards:
        folder.write(
            shard,
            islice(episodes, len(shard.seeds)),
            collector.metadata,
            only_successes=settings.only_successes,
            on_episode=on_episode,
        )


def _portable(error: Exception) -> Exception:
    """Return an error that survives the way to another process."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:  # noqa: BLE001 - whatever its author did
        return SimScaleError(f"{type(error).__name__}: {error}")
    return error
