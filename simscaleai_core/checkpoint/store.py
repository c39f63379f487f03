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
from contextlib import suppress
from pathlib import Path

from simscaleai_core.checkpoint import files, manifest
from simscaleai_core.checkpoint.lock import RunLock, is_alive, number_of_run
from simscaleai_core.checkpoint.manifest import CheckpointInfo, list_checkpoints, manifest_path
from simscaleai_core.contracts import CheckpointBackend, StateDict, is_sharded
from simscaleai_core.errors import CheckpointError, SaveError

logger = logging.getLogger("simscaleai")

_TEMPORARY = re.compile(r"\..+\.tmp-(\d+)\Z")
_ASIDE = re.compile(r"\.(.+)\.aside\Z")


class CheckpointStore:
    """The checkpoints of one directory.

    Args:
        directory: Where checkpoints are kept; made when the first is written.
        backend: Turns a tree into bytes and back.
        backend_name: Its name, for the manifest.
        keep_last: Step checkpoints to keep.
        rank: Global rank of this process.
        writer: Process id of rank 0, so that all ranks use one temporary name; this process if
            None.
    """

    def __init__(
        self,
        directory: Path,
        backend: CheckpointBackend,
        *,
        backend_name: str = "pt",
        keep_last: int = 3,
        rank: int = 0,
        writer: int | None = None,
    ) -> None:
        self.directory = directory
        self.is_sharded = is_sharded(backend)
        self.rank = rank
        self._writer = os.getpid() if writer is None else writer
        self._backend = backend
        self._backend_name = backend_name
        self._keep_last = keep_last
        self._lock = RunLock(directory)
        self._is_restart = False
        self._run = 1 + max((info.run for info in list_checkpoints(directory)), default=0)

    def open(self) -> None:
        """Make the directory ready for writing, before the first step.

        Raises:
            SaveError: If it cannot be written, or another run is writing to it.
        """  # noqa: DOC501 - built by _save_error
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()  # writes, and so finds a directory that cannot be written
        except OSError as error:
            raise _save_error(self.directory, error) from error
        self._run, self._is_restart = number_of_run(self.directory, self._run)
        for path in self.directory.iterdir():
            stale = _TEMPORARY.match(path.name)
            aside = _ASIDE.match(path.name)
            if stale and (int(stale[1]) == self._writer or not is_alive(int(stale[1]))):
                files.remove(path)
            elif path.name.endswith(".json.next"):
                manifest.settle(manifest_path(path))
            elif path.name.endswith(manifest.RETIRED):
                manifest.finish_retiring(path)
            elif aside and aside[1].endswith(self._backend.suffix):
                files.settle_aside(path, path.with_name(aside[1]))
                files.remove(path)

    def close(self) -> None:
        """Let other runs have the directory; safe to call twice."""
        self._lock.release()

    def save(self, name: str, tree: StateDict, *, step: int) -> CheckpointInfo:
        """Return what was committed: a crash at any moment leaves the earlier checkpoints whole.

        Args:
            name: File name without suffix, such as ``"step_5000"``.
            tree: Tensors and plain containers, as `to_serialisable` gives them.
            step: Steps completed.

        Raises:
            SaveError: If it could not be written; nothing that was there before is touched.
        """  # noqa: DOC501 - built by _save_error
        path, temporary = self._paths(name)
        described = manifest_path(path)
        try:
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
        except OSError as error:
            raise _save_error(path, error) from error
        finally:
            with suppress(OSError):
                files.remove(temporary)
        with suppress(OSError):
            files.remove(files.aside_path(path))
        return info

    def contribute(self, name: str, tree: StateDict) -> None:
        """Write this rank's part of a sharded checkpoint, which rank 0 saves and commits.

        Raises:
            SaveError: If it could not be written, here or on another rank.
        """  # noqa: DOC501 - built by _save_error
        path, temporary = self._paths(name)
        try:
            self._backend.save(temporary, tree)
        except OSError as error:
            raise _save_error(path, error) from error

    def _paths(self, name: str) -> tuple[Path, Path]:
        path = self.directory / f"{name}{self._backend.suffix}"
        return path, path.with_name(f".{path.name}.tmp-{self._writer}")

    def has(self, name: str, step: int) -> bool:
        """Return whether there is a checkpoint of that name (without suffix) and step."""
        file = f"{name}{self._backend.suffix}"
        return any(i.file == file and i.step == step for i in list_checkpoints(self.directory))

    def prune(self) -> None:
        """Remove this run's oldest step checkpoints beyond `keep_last`."""
        mine = (info for info in list_checkpoints(self.directory) if info.run == self._run)
        steps = [info for info in mine if info.file.startswith("step_")]
        for info in steps[: -self._keep_last]:
            manifest.retire(self.directory / info.file)

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
            others = CheckpointStore(path.parent, self._backend)
            advice = others.newest_whole(besides=path.name)
            if advice is None:
                raise
            raise CheckpointError(
                f"{error} The newest whole one is {path.parent / advice}.", path=path
            ) from error

    def _newest(self) -> tuple[Path, StateDict]:
        candidates = list_checkpoints(self.directory)
        for info in reversed(candidates):
            path = self.directory / info.file
            try:
                tree = read_checkpoint(path, self._backend)
            except CheckpointError as error:
                logger.warning("skipping a damaged checkpoint: %s", error)
                continue
            return path, tree
        raise CheckpointError(
            f"no usable checkpoint in {self.directory} ({len(candidates)} found, none whole). "
            "Start afresh without --resume, or name a file.",
            path=self.directory,
        )

    def newest_whole(self, *, besides: str = "") -> str | None:
        """Return the file name of the newest checkpoint whose checksum is right, or None."""
        for info in reversed(list_checkpoints(self.directory)):
            path = self.directory / info.file
            if info.file != besides and not manifest.damage_of(path):
                return info.file
        return None


def read_checkpoint(path: Path, backend: CheckpointBackend) -> StateDict:
    """Return a checkpoint's tree, checked against its manifest if it has one; tensors on the CPU.

    Raises:
        CheckpointError: If it is missing, damaged or not a checkpoint.
    """
    place = manifest.stored_at(path)
    if not (place.is_file() or (place.is_dir() and path.suffix == backend.suffix)):
        raise CheckpointError(
            f"no checkpoint at {path}: expected a file. List what is there: "
            f"simscale checkpoint list '{path.parent}'",
            path=path,
        )
    damage = manifest.damage_of(path)
    if damage:
        raise CheckpointError(f"{path} is damaged: {damage}.", path=path)
    if manifest.current_manifest(manifest_path(path)) is None:
        logger.warning("%s has no manifest beside it: its checksum is not verified", path)
    try:
        tree = backend.load(place)
    except Exception as error:  # a damaged file raises almost anything
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint: {first_line}", path=path
        ) from error
    if not isinstance(tree, dict):
        raise CheckpointError(
            f"{path} is not a SimScaleAI checkpoint: expected a dict, found {type(tree).__name__}.",
            path=path,
        )
    return tree


def _save_error(path: Path, error: OSError) -> SaveError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    return SaveError(
        f"could not write {path}: {reason}. Earlier checkpoints are untouched; make room or choose "
        "another checkpoint_dir.",
        path=path,
    )
