"""Every file operation below a folder, counted: at one of them the process dies, or the system errs.

Operations of the thread that saves and of the others are counted apart, since each thread's own
order never changes. A write that is interrupted has written half of its bytes.
"""

from __future__ import annotations

import builtins
import errno
import functools
import io
import os
import resource
import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
from attrs import define, field, frozen
from simscaleai_plugin_safetensors import backend as safetensors_backend

SAVING = "saving"
ELSEWHERE = "elsewhere"
LOG = "operations.txt"

_RENAMES = ("rename", "replace")
_PATHS = ("unlink", "remove", "mkdir", "rmdir")


@frozen(kw_only=True)
class Fault:
    """What happens at one file operation."""

    where: str
    """`SAVING` or `ELSEWHERE`."""
    number: int
    """Operations of that kind of thread that go well before it."""
    error: int | None = None
    """Number of the system's error; if None the process dies."""
    lasts: bool = False
    """Whether all operations that need room fail from then on, as on a full disk."""


@frozen(kw_only=True)
class Operation:
    """One file operation."""

    where: str
    kind: str
    path: str


def operations_of(folder: Path, rank: int = 0) -> list[Operation]:
    """Return what a run in a folder did, in the order of each kind of thread."""
    lines = (folder / f"{rank}-{LOG}").read_text().splitlines()
    parts = (line.split(" ", 2) for line in lines)
    return [Operation(where=where, kind=kind, path=path) for where, kind, path in parts]


def watch(below: str, fault: Fault | None = None, *, on_rank: int = 0) -> Callable[[int], None]:
    """Return what prepares a child: it logs its operations below a folder, and has the fault.

    Args:
        below: Name of a folder in the child's own.
        fault: What happens; nothing if None.
        on_rank: The rank that it happens on.
    """

    def prepare(rank: int) -> None:
        _Watcher(Path.cwd() / below, fault if rank == on_rank else None, rank).install()

    return prepare


@define
class _Watcher:
    folder: Path
    fault: Fault | None
    rank: int
    counts: Counter[str] = field(factory=Counter)
    is_full: bool = False
    log: int = -1

    def install(self) -> None:
        """Replace the functions of `os` and `io` through which files are changed."""
        self.log = os.open(Path.cwd() / f"{self.rank}-{LOG}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a limit on size is an error, not a kill
        for name in _PATHS:
            setattr(os, name, self._counted(name, getattr(os, name)))
        for name in _RENAMES:
            setattr(os, name, self._counted(name, getattr(os, name)))
        os.fsync = self._counted("fsync", os.fsync)
        os.open = self._opened(os.open)
        opened = self._stream(io.open)
        io.open = builtins.open = opened
        safetensors_backend.save_file = self._save_file

    def meets(self, kind: str, path: str) -> bool:
        """Count one operation; return whether the fault happens in it."""
        is_saving = threading.current_thread().name.startswith("simscale-save")
        where = SAVING if is_saving else ELSEWHERE
        number = self.counts[where]
        self.counts[where] += 1
        os.write(self.log, f"{where} {kind} {path}\n".encode())
        if self.is_full:
            return kind in {"write", "fsync", "open", "mkdir"}
        fault = self.fault
        if fault is None or fault.where != where or fault.number != number:
            return False
        self.is_full = fault.lasts
        return True

    @property
    def dies(self) -> bool:
        """Whether the fault is the end of this process."""
        return self.fault is not None and self.fault.error is None

    def fail(self, path: object) -> None:
        """Let the fault happen."""
        if self.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        number = (self.fault and self.fault.error) or errno.EIO
        raise OSError(number, os.strerror(number), str(path))

    def _shown(self, target: Any, folder: int | None) -> str | None:
        """Return a path or descriptor relative to the folder; None if it is elsewhere."""
        if isinstance(target, int):
            path = _opened_at(target)
        else:
            path = (_opened_at(folder) if folder else Path.cwd()) / os.fsdecode(target)
        if path == self.folder:
            return "."
        return str(path.relative_to(self.folder)) if path.is_relative_to(self.folder) else None

    def _counted(self, kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(target: Any, *args: Any, **kwargs: Any) -> Any:
            shown = self._shown(target, kwargs.get("dir_fd"))
            if shown is not None and self.meets(kind, shown):
                self.fail(target)
            return function(target, *args, **kwargs)

        return call

    def _opened(self, function: Callable[..., int]) -> Callable[..., int]:
        writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT

        def call(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
            shown = self._shown(path, kwargs.get("dir_fd"))
            if shown is not None and flags & writing and self.meets("open", shown):
                self.fail(path)
            return function(path, flags, *args, **kwargs)

        return call

    def _stream(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(file: Any, mode: str = "r", buffering: int = -1, *args: Any, **kwargs: Any) -> Any:
            is_path = not isinstance(file, int)
            shown = self._shown(file, None) if is_path else None
            if shown is None or not set(mode) & set("wax+"):
                return function(file, mode, buffering, *args, **kwargs)
            if self.meets("open", shown):
                self.fail(file)
            raw = _File(self, shown, file, mode.replace("b", "").replace("t", ""))
            buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            if "b" in mode:
                return raw if buffering == 0 else buffered
            return io.TextIOWrapper(buffered, *args, line_buffering=buffering == 1, **kwargs)

        return call

    def _save_file(self, tensors: Any, path: Path, **kwargs: Any) -> None:
        """Write as safetensors does, out of Python's sight: an error is a limit on file size."""
        shown = self._shown(path, None)
        if shown is None or not self.meets("write", shown):
            safetensors.torch.save_file(tensors, path, **kwargs)
            return
        if self.dies:
            safetensors.torch.save_file(tensors, path, **kwargs)
            os.truncate(path, path.stat().st_size // 2)
            self.fail(path)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (512, before[1]))
        try:
            safetensors.torch.save_file(tensors, path, **kwargs)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _opened_at(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()


class _File(io.FileIO):
    """A file whose writes are counted; a full disk takes half of the data, then nothing."""

    def __init__(self, watcher: _Watcher, shown: str, path: Any, mode: str) -> None:
        super().__init__(path, mode)
        self._watcher, self._shown, self._fails = watcher, shown, False

    def write(self, data: Any) -> int:
        if self._fails:
            self._fails = False
            self._watcher.fail(self._shown)
        if not self._watcher.meets("write", self._shown):
            return super().write(data)
        half = memoryview(data).cast("B")[: len(data) // 2]
        written = super().write(half) if half else 0
        if self._watcher.dies or not written:
            self._watcher.fail(self._shown)
        self._fails = True
        return written
