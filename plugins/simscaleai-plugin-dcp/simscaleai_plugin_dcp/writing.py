"""Writing a distributed checkpoint: torch's writer, and the tree beside its tensors."""

from __future__ import annotations

import io
import os
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty

from torch.distributed.checkpoint.filesystem import FileSystem, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from simscaleai_core.builtin.pt import PtBackend
from simscaleai_core.contracts import StateDict

TREE_FILE = "tree.pt"


class _Files(FileSystem):
    """Opens the files of one save and keeps what went wrong with them.

    torch 2.13 writes all files but one in threads whose exceptions are lost.
    """

    def __init__(self) -> None:
        self.failures: list[Exception] = []

    @contextmanager
    def create_stream(self, path: str | os.PathLike[str], mode: str) -> Iterator[io.IOBase]:
        """Open a file and keep what fails until it is closed.

        Yields:
            The open file.

        Raises:
            Empty: After a failure; torch's sign that there is no more to write.
        """
        try:
            with super().create_stream(path, mode) as stream:
                yield stream
        except Exception as error:
            self.failures.append(error)
            raise Empty from error


class Writer(FileSystemWriter):
    """Writes one checkpoint; torch reports failures to every rank.

    Args:
        path: The directory.
        skeleton: The tree with meta tensors; rank 0's is written.
        files: Files that this rank writes.
    """

    def __init__(self, path: Path, skeleton: StateDict, *, files: int) -> None:
        super().__init__(
            path, thread_count=files, per_thread_copy_ahead=0
        )  # all on the CPU already
        self.fs = self._files = _Files()
        self._skeleton = skeleton

    def storage_meta(self) -> StorageMeta | None:
        """Keep the temporary path and a random id out of the checkpoint.

        Returns:
            None.
        """
        return None

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write this rank's tensors.

        Returns:
            What was written where.

        Raises:
            OSError: If a file cannot be written; the system's own reason, which torch hides.
        """  # noqa: DOC501 - what else fails in a thread is raised as it is
        written = super().write_data(plan, planner)
        for error in self._files.failures:
            raise _reason(error)
        missing = {item.index for item in plan.items} - {part.index for part in written.value()}
        if missing:
            count = f"{len(missing)} of {len(plan.items)} tensors"
            raise OSError(f"{count} were not written to {Path(self.path).name}")
        return written

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Write tree and table of contents, on rank 0, once every part is there.

        Raises:
            FileNotFoundError: If the part of a rank is not in this rank's directory.
            ValueError: If the tree holds a value that torch writes and will not read.
        """
        path = Path(self.path)
        for rank, parts in enumerate(results):
            for name in {part.storage_data.relative_path for part in parts}:
                if not (path / name).is_file():
                    raise FileNotFoundError(
                        f"what rank {rank} wrote is not there; all ranks need one checkpoint_dir"
                    )
        PtBackend().save(path / TREE_FILE, self._skeleton)
        try:
            PtBackend().load(path / TREE_FILE)  # it is small, and torch 2.13 writes b"" in vain
        except pickle.UnpicklingError as error:
            reason = re.search(r"GLOBAL \S+|operand \d+|opcode \d+", str(error))
            raise ValueError(
                f"cannot read its tree back: {reason[0] if reason else error}"
            ) from None
        super().finish(metadata, results)


def _reason(error: Exception) -> Exception:
    """Return the system's own reason, which torch hides behind a RuntimeError."""
    hidden = error.__context__
    return hidden if isinstance(error, RuntimeError) and isinstance(hidden, OSError) else error
