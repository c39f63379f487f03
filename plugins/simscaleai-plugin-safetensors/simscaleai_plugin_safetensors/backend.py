"""The ``.safetensors`` checkpoint format."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import StateDict
from simscaleai_core.errors import CheckpointError
from simscaleai_plugin_safetensors.encoding import Encoder, decode

TREE_KEY = "simscaleai_tree"
"""Where the header keeps the tree; the only key, so that equal trees give equal files."""

_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")


class SafetensorsBackend:
    """Reads and writes ``.safetensors``. See `simscaleai_core.contracts.CheckpointBackend`.

    Args:
        config: The run's configuration.
        options: None; it has no options.
    """

    suffix = ".safetensors"

    def __init__(self, config: TrainConfig | None = None, options: None = None) -> None:
        del config, options

    def save(self, path: Path, tree: StateDict) -> None:
        """Write the tree to a fresh file.

        Raises:
            OSError: If the file cannot be written; the system's own reason.
            SafetensorError: If the library fails for another reason.
        """
        encoder = Encoder()
        header = {TREE_KEY: encoder.encode(tree)}
        # the library writes under a name of its own first, which a crash would leave behind; in a
        # folder named as the file's temporary name is, it is swept with it
        folder = path.with_name(f".{path.name}")
        folder.mkdir(exist_ok=True)
        try:
            path.touch()  # with the permissions of any new file; the library's are for the owner
            written = folder / "checkpoint"
            save_file(encoder.tensors, written, metadata=header)
            written.chmod(path.stat().st_mode)
            written.replace(path)
        except SafetensorError as error:
            number = _SYSTEM_ERROR.search(str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def load(self, path: Path) -> StateDict:
        """Read a tree, tensors on the CPU; the file holds no code.

        Returns:
            The tree.

        Raises:
            CheckpointError: If the file holds tensors only, and no run's state.
        """
        # read, not mapped into memory: a mapped file that changes or shrinks would change or kill
        with safe_open(path, framework="pt", backend="pread") as file:
            header = file.metadata() or {}
            if TREE_KEY not in header:
                raise CheckpointError(
                    f"{path} cannot be read as a checkpoint: it holds tensors only: expected "
                    f"{TREE_KEY!r} in its header. Use a checkpoint that a run has written.",
                    path=path,
                )
            tree: StateDict = decode(header[TREE_KEY], file.get_tensors())
        return tree
