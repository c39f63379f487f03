"""Writing a distributed checkpoint: torch's writer, and the tree beside its tensors."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from simscaleai_core.builtin.pt import PtBackend
from simscaleai_core.contracts import StateDict

TREE_FILE = "tree.pt"


class Writer(FileSystemWriter):
    """Writes one checkpoint; what fails here is told to every rank by torch.

    Args:
        path: The directory.
        skeleton: The tree with meta tensors; rank 0's is written.
        files: Files that this rank writes.
    """

    def __init__(self, path: Path, skeleton: StateDict, *, files: int) -> None:
        super().__init__(
            path, thread_count=files, per_thread_copy_ahead=0
        )  # all on the CPU already
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
            RuntimeError: If torch fails for another reason.
        """
        try:
            return super().write_data(plan, planner)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise

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
