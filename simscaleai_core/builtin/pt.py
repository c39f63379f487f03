"""The ``.pt`` checkpoint format: ``torch.save`` of tensors and plain containers."""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch

from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import StateDict


class PtBackend:
    """Reads and writes ``.pt``. See `simscaleai_core.contracts.CheckpointBackend`."""

    suffix = ".pt"

    def __init__(self, config: TrainConfig | None = None, options: None = None) -> None:
        del config, options

    def save(self, path: Path, tree: StateDict) -> None:
        """Write the tree to a fresh file.

        Raises:
            OSError: If the file cannot be written; the system's own reason, which torch hides.
            RuntimeError: If torch fails for another reason.
        """
        # through a file object: given a path, torch writes the path's name into the file
        with path.open("wb") as file:
            try:
                torch.save(tree, file)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise

    def load(self, path: Path) -> StateDict:
        """Return the tree in a file, tensors on the CPU; nothing from the file is executed.

        Raises:
            OSError: If a part of the file does not match its own checksum.
        """
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch itself does not compare the checksums
        if damaged:
            raise OSError(f"the checksum of its part {damaged!r} does not match")
        with path.open("rb") as file:
            tree: StateDict = torch.load(file, map_location="cpu", weights_only=True)
        return tree
