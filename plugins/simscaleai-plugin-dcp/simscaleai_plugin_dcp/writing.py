"""Writing a distributed checkpoint: torch's writer, and the tree beside its tensors."""

from __future__ import annotations

import io
import os
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
from simscaleai_core.checkpoint.files import remove
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
    """Writes one checkpoint.

    What one rank raises in any of these methods, torch raises on every rank: it gathers what became
    of each step. So whatever may fail is done in them: a rank that fails elsewhere is waited for.

    Args:
        path: The directory; rank 0 makes it.
        skeleton: The tree with meta tensors; rank 0's is written.
        files: Files that this rank writes.
    """

    def __init__(self, path: Path, skeleton: StateDict, *, files: int) -> None:
        super().__init__(
            path, thread_count=files, per_thread_copy_ahead=0
        )  # all on the CPU already
        self.fs = self._files = _Files()
        self._folder = path
        self._skeleton = skeleton

    def storage_meta(self) -> StorageMeta | None:
        """Keep the temporary path and a random id out of the checkpoint.

        Returns:
            None.
        """
        return None

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Leave the directory to rank 0.

        Returns:
            The plan as it is.
        """
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Make the directory, on rank 0, when no rank writes yet and none writes any more.

        Returns:
            A plan for each rank.
        """
        with self._failing_everywhere():
            remove(self._folder)  # what is left of a save that failed
            self._folder.mkdir()
        return super().prepare_global_plan(plans)

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write this rank's tensors.

        Returns:
            What was written where.

        Raises:
            OSError: If a file cannot be written; the system's own reason, which torch hides.
        """
        with self._failing_everywhere():
            if not self._folder.is_dir():
                raise OSError("rank 0's directory is not there; all ranks need one checkpoint_dir")
            written = super().write_data(plan, planner)
            lacking = {item.index for item in plan.items} - {w.index for w in written.value()}
            if lacking and not self._files.failures:
                count = f"{len(lacking)} of {len(plan.items)} tensors"
                raise OSError(f"{count} were not written to {self._folder.name}")
        return written

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Write tree and table of contents, on rank 0, once every part is there.

        Raises:
            OSError: If one cannot be written, or a rank's part is not in this rank's directory.
        """
        with self._failing_everywhere():
            for rank, parts in enumerate(results):
                names = {part.storage_data.relative_path for part in parts}
                if not all((self._folder / name).is_file() for name in names):
                    raise OSError(
                        f"what rank {rank} wrote is not there; all ranks need one checkpoint_dir"
                    )
            PtBackend().save(self._folder / TREE_FILE, self._skeleton)
            super().finish(metadata, results)

    @contextmanager
    def _failing_everywhere(self) -> Iterator[None]:
        """Raise what fails, here or in a thread, in a form that torch can send to every rank."""
        failures = self._files.failures
        try:
            yield
        except Exception as error:  # noqa: BLE001 - all others wait for what this rank says
            failures.append(error)
        if failures:
            raise _portable(failures[0]) from None


def _portable(error: Exception) -> Exception:
    """Return the system's own reason, which torch hides, as an error that pickle always takes."""
    hidden = error.__context__
    reason = hidden if isinstance(error, RuntimeError) and isinstance(hidden, OSError) else error
    if not isinstance(reason, OSError):
        return RuntimeError(f"{type(reason).__name__}: {reason}")
    return OSError(reason.errno, reason.strerror) if reason.errno else OSError(str(reason))
