"""Saving in the background: the loop waits only while its tensors are copied.

One save is in flight at a time. Tensors are copied into buffers that are kept for the next save, so
that what is written is the state at the step boundary whatever training does meanwhile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue

import torch
from torch import Tensor

from simscaleai_core.checkpoint.manifest import CheckpointInfo
from simscaleai_core.checkpoint.serialisation import to_serialisable
from simscaleai_core.checkpoint.spread import whole
from simscaleai_core.checkpoint.store import CheckpointStore
from simscaleai_core.contracts import StateDict
from simscaleai_core.errors import SaveError, SimScaleError, reason_of

logger = logging.getLogger("simscaleai")

_LONG_WAIT_S = 1.0
_NOTHING = torch.empty(0)


class Saver:
    """Writes the checkpoints of one run into a store, each in a thread of its own."""

    def __init__(self, store: CheckpointStore) -> None:
        self._store, self._writes = store, store.rank == 0 or store.is_sharded
        self._buffers: dict[str, Tensor] = {}
        self._thread: threading.Thread | None = None
        self._written: SimpleQueue[CheckpointInfo] = SimpleQueue()
        self.failure: SimScaleError | None = None
        """Why the newest save failed, or None if it is durable."""
        self.failed: tuple[str, ...] = ()
        """Names of the newest save that were not written."""
        self._unreported: SimpleQueue[SimScaleError] = SimpleQueue()

    def submit(self, names: Sequence[str], tree: StateDict, *, step: int) -> None:
        """Copy a tree and write it under one or more names; it may be changed right away.

        Waits for the save before, if it is still being written. Every rank must call it: one that
        writes nothing gives its part of the tensors that are spread.
        """
        self.wait_for_turn()
        staged = to_serialisable(tree, self._stage)
        if not self._writes:
            return
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
        if (waited_s := time.perf_counter() - started) > _LONG_WAIT_S:
            logger.warning(
                "waited %.1f s for the save before; consider a larger save_every", waited_s
            )

    def wait(self) -> None:
        """Wait for the save in flight, if there is one."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _write(self, names: tuple[str, ...], tree: StateDict, step: int) -> None:
        store, failed = self._store, []
        faults: list[SimScaleError] = []
        for name in names:
            # of a sharded checkpoint the other ranks wait for this one's part, whatever failed
            if not faults or store.is_sharded:
                with self._noting(faults, name):
                    if store.rank == 0:
                        self._written.put(store.save(name, tree, step=step))
                    else:
                        store.contribute(name, tree)
            failed += [name] if faults else []
        self.failure, self.failed = next(iter(faults), None), tuple(failed)
        if not faults and store.rank == 0:
            with self._noting(faults, ""):
                store.prune()  # a fault is said, but the state itself is written
        for fault in faults[:1]:
            self._unreported.put(fault)

    @contextmanager
    def _noting(self, faults: list[SimScaleError], name: str) -> Iterator[None]:
        try:
            yield
        except SimScaleError as error:
            faults.append(error)
        except Exception as error:  # noqa: BLE001 - a thread's exception would be lost
            text = f"could not write {name}: {reason_of(error)}. Earlier checkpoints are untouched."
            faults.append(SaveError(text, path=self._store.directory))

    def _stage(self, path: str, tensor: Tensor) -> Tensor:
        tensor = tensor.detach() if self._store.is_sharded else whole(tensor.detach())
        if not self._writes:
            return _NOTHING  # one whole tensor at a time is in memory here
        buffer = self._buffers.get(path)
        if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
            pinned, form = tensor.device.type == "cuda", torch.contiguous_format
            buffer = torch.empty_like(tensor, device="cpu", pin_memory=pinned, memory_format=form)
            self._buffers[path] = buffer
        return buffer.copy_(tensor, non_blocking=buffer.is_pinned())
