"""What a rank runs in the tests of saves that fail: one save per fault, and a word on each."""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from simscaleai_devkit.support.speed import no_fsync
from simscaleai_plugin_dcp.backend import DcpBackend
from simscaleai_plugin_dcp.options import DcpOptions
from simscaleai_plugin_ddp.options import DDPOptions
from simscaleai_plugin_ddp.strategy import DDPStrategy

from simscaleai_core.checkpoint.store import CheckpointStore
from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import CheckpointError, SaveError


class Unsendable(Exception):
    """An error that pickle writes and cannot read back, as many with a keyword are."""

    def __init__(self, *, path: str) -> None:
        super().__init__(path)


def fail(file: str, error: Exception, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of the system that fails for one file of an unfinished checkpoint."""

    def call(path: Any, *args: Any, **kwargs: Any) -> Any:
        opened = Path(f"/proc/self/fd/{path}").readlink() if isinstance(path, int) else Path(path)
        if ".tmp-" in str(opened) and file in str(opened):
            raise error
        return function(path, *args, **kwargs)

    return call


@contextmanager
def patched(module: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, function)
    try:
        yield
    finally:
        setattr(module, name, before)


@contextmanager
def no_room(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, as if the disk were full."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def fault(kind: str, file: str) -> Iterator[None]:
    """Have one operation of this rank fail, or all of them be late."""
    with ExitStack() as stack:
        if kind == "late":
            time.sleep(1.0)
        elif kind == "full":
            stack.enter_context(no_room(int(file)))
        elif kind == "unsendable":
            write = fail(file, Unsendable(path=file), io.open)
            stack.enter_context(patched(io, "open", write))
        elif kind == "open":
            write = fail(file, OSError(errno.EACCES, "Permission denied"), io.open)
            stack.enter_context(patched(io, "open", write))
        elif kind:
            broken = fail(file, OSError(errno.EIO, "Input/output error"), getattr(os, kind))
            stack.enter_context(patched(os, kind, broken))
        yield


def main() -> None:
    folder, files = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    strategy = DDPStrategy(TrainConfig(backend="gloo", device="cpu"), DDPOptions(timeout_s=60))
    backend = DcpBackend(options=DcpOptions(timeout_s=60, files_per_rank=files))
    backend.simscale_on_run_setup(SimpleNamespace(strategy=strategy))
    rank, writer = strategy.rank, strategy.broadcast(os.getpid())
    store = CheckpointStore(folder, backend, backend_name="dcp", rank=rank, writer=writer)
    if rank == 0:
        store.open()
    tree = {"step": 1, "model_state_dict": {f"w{i}": torch.rand(2000) for i in range(8)}}
    save: dict[int, Callable[[str], object]] = {
        0: lambda name: store.save(name, tree, step=1),
        1: lambda name: store.contribute(name, tree),
    }
    report = []
    for number, (ranks, kind, file) in enumerate(json.loads(sys.argv[3])):
        strategy.gather(None)
        started, said = time.monotonic(), ""
        with fault(kind, file) if rank in ranks else ExitStack():
            try:
                save[rank](f"step_{number}")
            except (SaveError, CheckpointError) as error:
                said = str(error)
        report.append((said, round(time.monotonic() - started, 2)))
    everyone = strategy.gather(report)
    if rank == 0:
        store.close()
        (folder / "report.json").write_text(json.dumps(everyone))
    strategy.teardown("done")


if __name__ == "__main__":
    with no_fsync():
        main()
