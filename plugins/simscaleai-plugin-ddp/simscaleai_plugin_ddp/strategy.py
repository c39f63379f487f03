"""DistributedDataParallel behind the strategy protocol of the core."""

from __future__ import annotations

import inspect
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
import torch.distributed.nn  # noqa: F401 - its defaults would keep a group that is there before it
from torch import Tensor, nn
from torch.distributed import PrefixStore  # type: ignore[attr-defined]  # not in __all__
from torch.nn.parallel import DistributedDataParallel

from simscaleai_core.builtin.single import clip_gradients, find_device
from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import ConfigError, RankError
from simscaleai_core.plugin import hookimpl
from simscaleai_plugin_ddp.buckets import steady
from simscaleai_plugin_ddp.joining import meet
from simscaleai_plugin_ddp.options import DDPOptions
from simscaleai_plugin_ddp.watching import Watch

if TYPE_CHECKING:
    from simscaleai_core.run.state import Run

logger = logging.getLogger("simscaleai")

_NOTHING = nullcontext()
_FOR_EVER = timedelta(days=365)
_BUFFER_SWITCH = (
    "forward_sync_buffers"  # its name from torch 2.13 on
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    else "broadcast_buffers"
)
_LAUNCH = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


class DDPStrategy:
    """One process per device; gradients are averaged in the backward pass.

    See `simscaleai_core.contracts.Strategy`. Rank and world size come from the launcher's
    environment. The global rank decides who writes, so that one process writes on any number of
    nodes.

    Args:
        config: Gives `backend` and `device`.
        options: Time-out and DDP's own switches.

    Raises:
        ConfigError: If the process was not started by torchrun.
    """

    def __init__(self, config: TrainConfig, options: DDPOptions) -> None:
        missing = [name for name in _LAUNCH if name not in os.environ]
        if missing:
            raise ConfigError(
                "distributed training needs a launcher: expected the environment of torchrun, "
                f"{', '.join(missing)} not set. Start it with "
                "torchrun --nproc_per_node=N -m simscaleai_core train ..."
            )
        self._options = options
        self.rank = int(os.environ["RANK"])
        self.world_size = int(os.environ["WORLD_SIZE"])
        self.device = _device(config.device)
        backend = self._backend(config.backend)
        self.effective = f"ddp, {backend}, {self.world_size} ranks"
        timeout = timedelta(seconds=options.timeout_s)
        self._has_joined = not dist.is_initialized()
        self._excepthook = sys.excepthook  # torch wraps it in joining, and leaves its own
        store, prefix = meet(options) if self._has_joined else (None, None)
        limit_s, is_on_gpu = options.hang_timeout_s, self.device.type == "cuda"
        self._watch = Watch(self.rank, self.world_size, prefix, limit_s, is_on_gpu=is_on_gpu)
        try:
            with self._naming_lost_ranks():
                self._join(backend, store, timeout)
        except BaseException:
            self._watch.stop()
            raise

    def _join(self, backend: str, store: PrefixStore | None, timeout: timedelta) -> None:
        if store is not None:
            place: dict[str, Any] = {"rank": self.rank, "world_size": self.world_size}
            dist.init_process_group(backend, store=store, timeout=timeout, **place)
        # serialisable values are gathered on the host and need no device memory; in it ranks wait
        # for one whose part of an evaluation takes longer, and a hang is noticed by the watch
        patience = timeout if store is None else _FOR_EVER
        self._host_group = dist.new_group(backend="gloo", timeout=patience)

    @hookimpl
    def simscale_on_run_setup(self, run: Run) -> None:
        """Have the other ranks know how far this one is."""
        self._watch.follow(run)

    def _backend(self, asked: str) -> str:
        """Return the backend of the group of all ranks."""
        if asked == "nccl" and self.device.type != "cuda":
            if self.rank == 0:
                logger.warning("backend nccl needs CUDA; using gloo on %s", self.device)
            return "gloo"
        return asked

    def setup(self, policy: nn.Module) -> nn.Module:
        """Return the policy with rank 0's weights, wrapped.

        Buffers are broadcast each step only if there is batch normalisation, whose statistics
        would drift apart; normalisers are equal on all ranks by construction.
        """
        batch_norm = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in policy.modules())
        buffers: dict[str, Any] = {_BUFFER_SWITCH: batch_norm}
        return steady(
            policy,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            **buffers,
            gradient_as_bucket_view=True,
            find_unused_parameters=self._options.find_unused_parameters,
            static_graph=self._options.static_graph,
        )

    def sync(self, module: nn.Module, last: bool) -> AbstractContextManager[Any]:
        """Return the context around one micro-batch; gradients are averaged only on the last."""
        if last or not isinstance(module, DistributedDataParallel):
            return _NOTHING
        context: AbstractContextManager[Any] = module.no_sync()
        return context

    def clip(self, parameters: Sequence[Tensor], max_norm: float | None) -> Tensor:
        """Clip the averaged gradients in place; return their norm `[]`, equal on all ranks."""
        return clip_gradients(parameters, max_norm)

    def reduce(self, values: Tensor) -> Tensor:
        """Return the element-wise sum over ranks of `values` `[N]`."""
        is_on_host = values.device.type == "cpu"
        with self._naming_lost_ranks():
            dist.all_reduce(values, group=self._host_group if is_on_host else None)
        return values

    def gather(self, value: Any) -> list[Any]:
        """Return the serialisable value of every rank, in the order of ranks."""
        values: list[Any] = [None] * self.world_size
        with self._naming_lost_ranks():
            dist.all_gather_object(values, value, group=self._host_group)
        return values

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's serialisable value on every rank."""
        box = [value]
        with self._naming_lost_ranks():
            dist.broadcast_object_list(box, src=0, group=self._host_group)
        return box[0]

    def teardown(self, status: str) -> None:
        """Leave the groups that were joined here; after a failure, without waiting for the others.

        A thread of gloo may still hold the tensors of a collective that is done, and takes the
        interpreter's lock to let go of them (torch 2.13). If the interpreter is ending by then,
        the process aborts: "terminate called without an active exception", status -6. gloo joins
        its threads only when a group is freed, which `destroy_process_group` does if nothing else
        keeps it: neither the strategy, nor the wrapper, nor `torch.distributed.nn`.

        Raises:
            RankError: If another rank ended before.
        """
        try:
            self._leave(status)
        finally:
            self._watch.stop()

    def _leave(self, status: str) -> None:
        if not dist.is_initialized():
            return
        lost: Exception | None = None
        if status != "failed":
            try:
                dist.barrier(group=self._host_group)
            except RuntimeError as error:
                lost = self.lost_rank(error) or error
        # does not block: each collective of this group was waited for; DDP's own may be under way
        dist.destroy_process_group(self._host_group)
        del self._host_group
        if lost is not None:
            raise lost
        if status != "failed" and self._has_joined:
            dist.destroy_process_group()
            sys.excepthook = self._excepthook

    @contextmanager
    def _naming_lost_ranks(self) -> Iterator[None]:
        """Raise a clear error in place of a lost connection, before there is a loop that does."""
        try:
            yield
        except RuntimeError as error:
            if (lost := self.lost_rank(error)) is not None:
                raise lost from error
            raise

    def lost_rank(self, error: BaseException) -> RankError | None:
        """Return a clear error for a lost connection: the consequence of another rank's end."""
        text = str(error)
        if isinstance(error, RuntimeError) and ("onnection" in text or "timed out" in text.lower()):
            reason = text.partition("] ")[2].partition(". ")[0] or text.splitlines()[0]
            return RankError(
                f"rank {self.rank} lost another rank: {reason}. The cause is in that rank's own "
                "message."
            )
        return None


def _device(name: str) -> torch.device:
    device = find_device(name)
    if device.type == "mps":
        raise ConfigError("ddp runs on CUDA and CPU, not on MPS. Use --device cpu.")
    if device.type != "cuda":
        return device
    local_rank = int(os.environ["LOCAL_RANK"])
    if local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"local rank {local_rank} has no GPU of its own: found {torch.cuda.device_count()}. "
            "Start at most that many processes per node."
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)
