"""Saving in the background: the loop waits only while its tensors are copied.

One save is in flight at a time. Tensors are copied into buffers that are kept for the next save, so
that what is written is the state at the step boundary whatever training does meanwhile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from queue import SimpleQueue

import torch
from torch import Tensor

from simscaleai_core.checkpoint.manifest import CheckpointInfo
from simscaleai_core.checkpoint.serialisation import to_serialisable
from simscaleai_core.checkpoint.store import CheckpointStore
from simscaleai_core.contracts import StateDict
from simscaleai_core.errors import SaveError, SimScaleError

logger = logging.getLogger("simscaleai")

_LONG_WAIT_S = 1.0


class Saver:
    """Writes the checkpoints of one run into a store, each in a thread of its own."""

    def __init__(self, store: CheckpointStore) -> None:
        self._store = store
        self._buffers: dict[str, Tensor] = {}
        self._thread: threading.Thread | None = None
        self._written: SimpleQueue[CheckpointInfo] = SimpleQueue()
        self._failure: SimScaleError | None = None
        self._unreported: SimpleQueue[SimScaleError] = SimpleQueue()

    def submit(self, names: Sequence[str], tree: StateDict, *, step: int) -> None:
        """Copy a tree and write it under one or more names; it may be changed right away.

        Waits for the save before, if it is still being written.
        """
        self.wait_for_turn()
        staged = to_serialisable(tree, self._stage)
        if any(buffer.is_pinned() for buffer in self._buffers.values()):
            torch.cuda.synchronize()
        self._thread = threading.Thread(
            target=self._write, args=(tuple(names), staged, step), name="simscale-save"
        )
        self._thread.start()

    def finished(self) -> list[CheckpointInfo]:
        """Return what became durable since the last call, and report failures; never waits."""
        for _ in range(self._unreported.qsize()):
            failure = self._unreported.get_nowait()
            logger.error("%s Training goes on; the next save tries again.", failure)
        return [self._written.get_nowait() for _ in range(self._written.qsize())]

    def wait_for_turn(self) -> None:
        """Wait for the save in flight before the next one; say so if it takes long."""
        started = time.perf_counter()
        self.wait()
        waited_s = time.perf_counter() - started
        if waited_s > _LONG_WAIT_S:
            logger.warning(
                "waited %.1f s for the save before; consider a larger save_every", waited_s
            )

    def wait(self) -> None:
        """Wait for the save in flight, if there is one."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    @property
    def failure(self) -> SimScaleError | None:
        """Why the newest save failed, or None if it is durable."""
        return self._failure

    def _write(self, names: tuple[str, ...], tree: StateDict, step: int) -> None:
        store, failure = self._store, None
        for name in names:
            # of a sharded checkpoint the other ranks wait for this one's part, whatever failed
            if failure is None or store.is_sharded:
                fault = self._attempt(name, partial(self._write_one, name, tree, step))
                failure = failure or fault
        if failure is None and store.rank == 0:
            failure = self._attempt("", store.prune)
        self._failure = failure
        if failure is not None:
            self._unreported.put(failure)

    def _write_one(self, name: str, tree: StateDict, step: int) -> None:
        if self._store.rank == 0:
            self._written.put(self._store.save(name, tree, step=step))
        else:
            self._store.contribute(name, tree)

    def _attempt(self, name: str, write: Callable[[], None]) -> SimScaleError | None:
        try:
            write()
        except SimScaleError as error:
            return error
        except Exception as error:  # noqa: BLE001 - a thread's exception would be lost
            return SaveError(
                f"could not write {name or 'checkpoints'}: {type(error).__name__}: {error}. "
                "Earlier checkpoints are untouched.",
                path=self._store.directory,
            )
        return None

    def _stage(self, path: str, tensor: Tensor) -> Tensor:
        buffer = self._buffers.get(path)
        if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
            pinned = tensor.device.type == "cuda"
            buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=pinned)
            self._buffers[path] = buffer
        return buffer.copy_(tensor.detach(), non_blocking=buffer.is_pinned())
