"""Checkpoints on disk: names, atomic commit, checksums, retention and recovery.

Writing: a temporary name in the same directory, fsync, rename, fsync of the directory. The new
manifest is written before the data is replaced and takes its place afterwards, so that at every
moment one of the two describes the data. A file without a manifest is not taken for a checkpoint by
``auto``. Only then are older ones removed, and only those of this run. A backend may write a
directory, alone or with a part from every rank; rank 0 commits it.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from attrs import define, field

from simscaleai_core.checkpoint import files, manifest
from simscaleai_core.checkpoint.lock import RunLock, is_alive, number_of_run
from simscaleai_core.checkpoint.manifest import CheckpointInfo, list_checkpoints, manifest_path
from simscaleai_core.contracts import CheckpointBackend, StateDict, is_sharded
from simscaleai_core.errors import CheckpointError, SaveError, reason_of

logger = logging.getLogger("simscaleai")

_TEMPORARY = re.compile(r"\..+\.tmp-(\d+)\Z")
_ASIDE = re.compile(r"\.(.+)\.aside\Z")


@define(eq=False)
class CheckpointStore:
    """The checkpoints of one directory."""

    directory: Path
    _backend: CheckpointBackend
    _backend_name: str = field(default="pt", kw_only=True)
    _keep_last: int = field(default=3, kw_only=True)
    rank: int = field(default=0, kw_only=True)
    _writer: int = field(factory=os.getpid, kw_only=True)  # rank 0's: all use one temporary name
    _launchers: Sequence[str | None] = field(default=(), kw_only=True)  # of every rank
    is_sharded: bool = field(init=False)
    _lock: RunLock = field(init=False)
    _is_restart: bool = field(default=False, init=False)
    _run: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.is_sharded, self._lock = is_sharded(self._backend), RunLock(self.directory)
        self._run = 1 + max((info.run for info in list_checkpoints(self.directory)), default=0)

    def open(self) -> None:
        """Make the directory ready, or raise a `SaveError` if it is in use or cannot be written."""
        with writing(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()  # writes, and so finds a directory that cannot be written
            self._run, self._is_restart = number_of_run(self.directory, self._run, self._launchers)
            for path in self.directory.iterdir():
                self._settle(path)

    def _settle(self, path: Path) -> None:
        """Finish, bring back or remove what a killed run has left."""
        stale, aside = _TEMPORARY.match(path.name), _ASIDE.match(path.name)
        if stale and (int(stale[1]) == self._writer or not is_alive(int(stale[1]))):
            files.remove(path)
        elif path.name.endswith(".json.next"):
            manifest.settle(manifest_path(path))
        elif path.name.endswith(manifest.RETIRED):
            manifest.finish_retiring(path)
        elif aside and aside[1].endswith(self._backend.suffix):
            files.settle_aside(path, path.with_name(aside[1]))
            files.remove(path)

    def set_aside(self) -> None:
        """Keep what an earlier run left here in a folder of its own, unless it goes on there."""
        infos, suffix = list_checkpoints(self.directory), self._backend.suffix
        names = [f"best{suffix}", f"final{suffix}", *(info.file for info in infos)]
        names += [manifest_path(Path(info.file)).name for info in infos]
        found = [name for name in dict.fromkeys(names) if (self.directory / name).exists()]
        if not found or any(info.run == self._run for info in infos):
            return
        place = next(p for n in count(1) if not (p := self.directory / f"run_{n}").exists())
        with writing(place):
            place.mkdir()
            for name in [*found, "metrics.jsonl"]:
                with suppress(FileNotFoundError):
                    files.replace(self.directory / name, place / name)
        logger.warning("%s has an earlier run: it is kept in %s", self.directory, place)

    def close(self) -> None:
        """Let other runs have the directory; safe to call twice."""
        self._lock.release()

    def save(self, name: str, tree: StateDict, *, step: int) -> CheckpointInfo:
        """Return what was committed: a crash at any moment leaves the earlier checkpoints whole.

        `name` is a file name without suffix, `tree` one as `to_serialisable` gives it.

        Raises:
            SaveError: If it could not be written; nothing that was there before is touched.
        """
        path, temporary = self._paths(name)
        described = manifest_path(path)
        try:
            with writing(path):
                if not self.is_sharded:  # another rank may have begun to write its part
                    files.remove(temporary)
                self._backend.save(temporary, tree)
                files.sync(temporary)
                info = CheckpointInfo(
                    file=path.name,
                    step=step,
                    run=self._run,
                    size_bytes=files.size_of(temporary),
                    blake2b=files.digest_of(temporary),
                    backend=self._backend_name,
                )
                manifest.settle(described)
                manifest.write_manifest(manifest.pending_path(described), info)
                files.put_in_place(temporary, path)
                files.replace(manifest.pending_path(described), described)
        finally:
            with suppress(OSError):
                files.remove(temporary)
        with suppress(OSError):
            files.remove(files.aside_path(path))
        return info

    def contribute(self, name: str, tree: StateDict) -> None:
        """Write this rank's part of a sharded checkpoint, which rank 0 saves and commits."""
        path, temporary = self._paths(name)
        with writing(path):
            self._backend.save(temporary, tree)

    def _paths(self, name: str) -> tuple[Path, Path]:
        path = self.directory / f"{name}{self._backend.suffix}"
        return path, path.with_name(f".{path.name}.tmp-{self._writer}")

    def has(self, name: str, step: int) -> bool:
        """Return whether this run has a checkpoint of that name (without suffix) and step."""
        wanted = (f"{name}{self._backend.suffix}", step, self._run)
        return any((i.file, i.step, i.run) == wanted for i in list_checkpoints(self.directory))

    def prune(self) -> None:
        """Remove this run's oldest step checkpoints beyond `keep_last`, or raise a `SaveError`."""
        mine = (info.file for info in list_checkpoints(self.directory) if info.run == self._run)
        steps = [self.directory / file for file in mine if file.startswith("step_")]
        for path in steps[: -self._keep_last]:
            try:
                manifest.retire(path)
            except OSError as error:
                fault = f"could not remove {path.name}: {reason_of(error)}"
                again = "It is tried again after the next save."
                raise SaveError(f"{fault}. {again}", path=path) from error

    def load(self, reference: str) -> tuple[Path, StateDict] | None:
        """Return file and tree of a checkpoint by path, or of the newest whole one for ``"auto"``.

        A run that torchrun restarted continues from its own newest checkpoint whatever the
        reference says. None if there is nothing to continue from: no reference, or ``"auto"`` in a
        directory without any checkpoint, so that the same command can start and continue a run.

        Raises:
            CheckpointError: If it is missing or damaged; the newest whole one is then named.
        """
        if self._is_restart and any(i.run == self._run for i in list_checkpoints(self.directory)):
            reference = "auto"
        if reference == "auto":
            for path in manifest.with_unreadable_manifest(self.directory):
                logger.warning("skipping %s: its manifest cannot be read", path)
        if not reference or (reference == "auto" and not list_checkpoints(self.directory)):
            return None
        path, tree = self._newest() if reference == "auto" else self._explicit(Path(reference))
        info = manifest.current_manifest(manifest_path(path))
        if info is not None and path.parent.resolve() == self.directory.resolve():
            self._run = info.run
        return path, tree

    def _explicit(self, path: Path) -> tuple[Path, StateDict]:
        try:
            return path, read_checkpoint(path, self._backend)
        except CheckpointError as error:
            infos = list_checkpoints(path.parent)
            runs = [info.run for info in infos if info.file == path.name]
            others = [i.file for i in infos if i.run in runs and i.file != path.name]
            for other in map(path.with_name, reversed(others)):
                if not manifest.damage_of(other):
                    text = f"{error} The newest whole one is {other}."
                    raise CheckpointError(text, path=path) from error
            raise

    def _newest(self) -> tuple[Path, StateDict]:
        candidates = list_checkpoints(self.directory)
        for info in reversed(candidates):
            path = self.directory / info.file
            try:
                return path, read_checkpoint(path, self._backend)
            except CheckpointError as error:
                logger.warning("skipping a damaged checkpoint: %s", error)
        raise CheckpointError(
            f"no usable checkpoint in {self.directory} ({len(candidates)} found, none whole). "
            "Start afresh without --resume, or name a file.",
            path=self.directory,
        )


def read_checkpoint(path: Path, backend: CheckpointBackend) -> StateDict:
    """Return a checkpoint's tree, tensors on the CPU, checked against its manifest if any."""
    place = manifest.stored_at(path)
    if not (place.is_file() or (place.is_dir() and path.suffix == backend.suffix)):
        raise CheckpointError(
            f"no checkpoint at {path}: expected a file. List what is there: "
            f"simscale checkpoint list '{path.parent}'",
            path=path,
        )
    if damage := manifest.damage_of(path):
        raise CheckpointError(f"{path} is damaged: {damage}.", path=path)
    if manifest.current_manifest(manifest_path(path)) is None:
        logger.warning("%s has no manifest beside it: its checksum is not verified", path)
    try:
        tree = backend.load(place)
    except CheckpointError:
        raise
    except Exception as error:  # a damaged file raises almost anything
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint: {reason}.", path=path
        ) from error
    if not isinstance(tree, dict):
        raise CheckpointError(
            f"{path} is not a SimScaleAI checkpoint: expected a dict, found {type(tree).__name__}.",
            path=path,
        )
    return tree


@contextmanager
def writing(place: Path | str) -> Iterator[None]:
    """Raise a `SaveError` for what the system does not let the body write."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        path = error.filename if isinstance(error.filename, str) else place
        raise SaveError(
            f"could not write {place}: {reason}. Earlier checkpoints are untouched; make room or "
            "choose another checkpoint_dir.",
            path=path,
        ) from error
