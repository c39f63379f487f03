"""The ``.dcp`` checkpoint format: a directory that all ranks write together."""

from __future__ import annotations

import warnings
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.state_dict_saver import save

from simscaleai_core.builtin.pt import WITHOUT_DATA, read_tree
from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import StateDict
from simscaleai_core.errors import ConfigError
from simscaleai_core.hookspecs import simscale_on_run_setup
from simscaleai_core.run.state import Run
from simscaleai_plugin_dcp.options import DcpOptions
from simscaleai_plugin_dcp.reading import read_table, read_tensor
from simscaleai_plugin_dcp.tree import fill, is_everyones, split
from simscaleai_plugin_dcp.writing import TREE_FILE, Writer


class DcpBackend:
    """Reads and writes ``.dcp``. See `simscaleai_core.contracts.CheckpointBackend`.

    Saving is collective: each rank calls `save` with one path, in the same order. It goes through a
    group of its own, since it runs beside training.

    Args:
        config: The run's configuration.
        options: Time-out and number of files.
    """

    suffix = ".dcp"
    is_sharded = True

    def __init__(
        self, config: TrainConfig | None = None, options: DcpOptions | None = None
    ) -> None:
        del config
        self._options = options or DcpOptions()
        self._group: dist.ProcessGroup | None = None
        # torch warns of every save and load by one process alone, which is no fault here
        warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable")

    @simscale_on_run_setup
    def simscale_on_run_setup(self, run: Run) -> None:
        """Make the group for saving.

        Raises:
            ConfigError: If there are several ranks that torch.distributed does not connect.
        """
        self._group = None
        if run.strategy.world_size == 1:
            return
        if not dist.is_initialized():
            raise ConfigError(
                f"the checkpoint backend 'dcp' needs torch.distributed for "
                f"{run.strategy.world_size} ranks: expected a strategy such as ddp, got "
                f"{run.strategy.effective}. Use --strategy ddp or another --checkpoint-backend."
            )
        run.strategy.gather(None)  # finds at once a rank that is gone; a new group waits for it
        timeout = timedelta(seconds=self._options.timeout_s)
        self._group = dist.new_group(backend="gloo", timeout=timeout)

    def save(self, path: Path, tree: StateDict) -> None:
        """Write this rank's part to a fresh directory; returns when all parts are written.

        Raises:
            OSError: If a rank could not write its part; every rank raises it then.
        """  # noqa: DOC501 - built by _save_error
        skeleton, tensors = split(tree)
        if self._group is not None and dist.get_rank(self._group) != 0:
            tensors = {n: t for n, t in tensors.items() if is_everyones(n, t)}
        try:
            save(
                tensors,
                storage_writer=Writer(path, skeleton, files=self._options.files_per_rank),
                planner=DefaultSavePlanner(flatten_state_dict=False),
                process_group=self._group,
                no_dist=self._group is None,
            )
        except CheckpointException as error:
            raise _save_error(error, alone=self._group is None) from error

    def load(self, path: Path) -> StateDict:
        """Read a tree in this process alone, executing nothing from the directory.

        Returns:
            The tree, tensors on the CPU.

        Raises:
            NotADirectoryError: If there is a file of that name.
            TypeError: If its tree is none.
        """
        if not path.is_dir():
            raise NotADirectoryError("expected a directory, found a file")
        parts = read_table(path)
        with (path / TREE_FILE).open("rb") as file:
            skeleton = read_tree(file, tensors=(WITHOUT_DATA,))
        if not isinstance(skeleton, dict):
            raise TypeError(f"its tree is a {type(skeleton).__name__}")
        return fill(skeleton, partial(read_tensor, path, parts))


def _save_error(error: CheckpointException, *, alone: bool) -> OSError:
    """Return what happened on which rank."""
    failures = {rank: failure[0] for rank, failure in sorted(error.failures.items())}
    first = next(iter(failures.values()), None)
    if alone and isinstance(first, OSError):
        return first
    return OSError("; ".join(f"rank {rank}: {_words(f)}" for rank, f in failures.items()))


def _words(error: BaseException) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error) if type(error) is RuntimeError else f"{type(error).__name__}: {error}"
