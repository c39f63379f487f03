"""A recording in shards: finished ones are in a folder beside the file, until all are there.

The folder ``FILE.parts`` holds a manifest of the settings and, for each finished shard, a JSON file
with the metadata of its episodes and, if any are kept, a trajectory file. A shard without its JSON
file is not there; so a recording that was killed loses only what was being recorded.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs
from attrs import frozen
from filelock import FileLock, Timeout
from simscaleai_plugin_hdf5.writer import EpisodeWriter

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_gym.envs.observations import Metadata
from simscaleai_plugin_gym.record.collector import Episode

MANIFEST = "manifest.json"
_MISSING = "nothing"


@frozen(kw_only=True)
class EpisodeMetadata:
    """What is known of an episode without its arrays."""

    seed: int
    """Seed of the episode."""
    success: bool | None
    """Whether the task was done at any step; None if the environment does not report it."""
    length: int
    """Steps."""
    names: tuple[str, ...]
    """Its groups in the shard's file, first the original; none if it was dropped."""


@frozen(kw_only=True)
class Shard:
    """Some of the episodes."""

    index: int
    """Place among the shards, from 0."""
    seeds: Sequence[int]
    """Seeds of its episodes."""


@frozen(kw_only=True)
class ShardContent:
    """A finished shard on its way from one machine to another."""

    table: str
    """Metadata of its episodes, as JSON."""
    episodes: bytes | None
    """Its trajectory file; None if no episode was kept."""


class ShardFolder:
    """The folder of a recording that is not complete.

    Args:
        output: The file that is to be made.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.path = output.with_name(f"{output.name}.parts")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other recordings of the same file away while the body runs.

        Raises:
            ConfigError: If another one is running, or the folder cannot be made.
        """
        lock = FileLock(self.path / "lock")  # ends with the process, however it ends
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            raise ConfigError(
                f"output {str(self.output)!r} is being recorded by another process. Wait for "
                "it, or choose another name."
            ) from None
        except OSError as error:
            raise ConfigError(
                f"output {str(self.output)!r}: expected a folder that can be written, got "
                f"{error.strerror}. Choose another place."
            ) from error
        try:
            yield
        finally:
            lock.release()

    def begin(self, settings: Mapping[str, Any], shard_size: int, *, overwrite: bool) -> int:
        """Continue with the same settings, or begin anew.

        Args:
            settings: Everything that the content of the file depends on, as JSON holds it.
            shard_size: Episodes per shard, if this is a beginning.
            overwrite: Whether to drop what was begun with other settings.

        Returns:
            Episodes per shard, at least 1.

        Raises:
            ConfigError: If other settings were begun with.
        """
        manifest = self.path / MANIFEST
        begun = json.loads(manifest.read_text("utf-8")) if manifest.exists() else None
        if begun is not None and begun["settings"] == settings:
            for leftover in self.path.glob(".*.tmp"):
                leftover.unlink()
            return int(begun["shard_size"])
        if begun is not None and not overwrite:
            differences = "; ".join(_differences(begun["settings"], settings))
            raise ConfigError(
                f"{str(self.path)!r} was begun with other settings: {differences}. Repeat the "
                "command with those to continue it, pass --overwrite to begin anew, or remove the "
                "folder."
            )
        for entry in self.path.iterdir():
            if entry.name != "lock":
                entry.unlink()
        _write_json(manifest, {"settings": settings, "shard_size": shard_size})
        return shard_size

    def write(
        self,
        shard: Shard,
        episodes: Iterator[Episode],
        metadata: Metadata,
        *,
        only_successes: bool,
        on_episode: Callable[[EpisodeMetadata], None],
    ) -> None:
        """Write one shard; it is there when all of it is.

        Args:
            shard: Which.
            episodes: Its episodes, in order of seeds.
            metadata: Metadata of the environment.
            only_successes: Whether episodes that failed are dropped.
            on_episode: Called with the metadata of each episode.
        """
        attempts = []
        with ExitStack() as stack:
            writer: EpisodeWriter | None = None
            for episode in episodes:
                names: tuple[str, ...] = ()
                if episode.success or not only_successes:
                    # Only now: a file without episodes cannot be finished.
                    writer = writer or stack.enter_context(EpisodeWriter(self.file_of(shard.index)))
                    names = tuple(_write_episode(writer, episode))
                attempts.append(
                    EpisodeMetadata(
                        seed=episode.seed,
                        success=episode.success,
                        length=len(episode.rewards),
                        names=names,
                    )
                )
                on_episode(attempts[-1])
        table = {"env": metadata, "episodes": [attrs.asdict(attempt) for attempt in attempts]}
        _write_json(self._metadata_of(shard.index), table)

    def content(self, shard: Shard) -> ShardContent:
        """Return what is in a finished shard."""
        file = self.file_of(shard.index)
        return ShardContent(
            table=self._metadata_of(shard.index).read_text("utf-8"),
            episodes=file.read_bytes() if file.exists() else None,
        )

    def add(self, shard: Shard, content: ShardContent) -> None:
        """Write a shard that was recorded elsewhere; it is there when all of it is."""
        if content.episodes is not None:
            _write_bytes(self.file_of(shard.index), content.episodes)
        _write_bytes(self._metadata_of(shard.index), content.table.encode())

    def is_finished(self, shard: Shard) -> bool:
        """Return whether a shard is finished."""
        return self._metadata_of(shard.index).exists()

    def episodes(self, shard: Shard) -> list[EpisodeMetadata]:
        """Return the metadata of a finished shard's episodes, in order of seeds."""
        entries = self._read(shard)["episodes"]
        return [EpisodeMetadata(**{**entry, "names": tuple(entry["names"])}) for entry in entries]

    def env_metadata(self, shard: Shard) -> Metadata:
        """Return the environment's metadata as of when a shard was recorded."""
        metadata: Metadata = self._read(shard)["env"]
        return metadata

    def file_of(self, index: int) -> Path:
        """Return where a shard's episodes are, if any were kept."""
        return self.path / f"shard_{index:05d}.h5"

    def remove(self) -> None:
        """Remove the folder and all in it."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _metadata_of(self, index: int) -> Path:
        return self.path / f"shard_{index:05d}.json"

    def _read(self, shard: Shard) -> Any:
        return json.loads(self._metadata_of(shard.index).read_text("utf-8"))


def _write_episode(writer: EpisodeWriter, episode: Episode) -> list[str]:
    metadata: dict[str, Any] = {"success": episode.success, "seed": episode.seed}
    metadata["language"] = episode.language
    name = writer.write(episode.observations, episode.actions, episode.rewards, **metadata)
    others = [
        writer.relabel(name, other.actions, language=other.language) for other in episode.relabelled
    ]
    return [name, *others]


def _write_json(path: Path, table: Mapping[str, Any]) -> None:
    _write_bytes(path, json.dumps(table, indent=1).encode())


def _write_bytes(path: Path, content: bytes) -> None:
    """Write a file that is there with all of its content, or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def _differences(begun: Mapping[str, Any], now: Mapping[str, Any]) -> Sequence[str]:
    names = [name for name in {**begun, **now} if begun.get(name) != now.get(name)]
    return [
        f"{name}: begun with {begun.get(name, _MISSING)!r}, now {now.get(name, _MISSING)!r}"
        for name in names
    ]
