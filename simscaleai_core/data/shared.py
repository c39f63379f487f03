"""Bytes that the processes of a run on one host share: a mapped file that soon has no name.

It ends with the processes, however these end: it loses its name as soon as all ranks of the host
have it, and what killed ranks leave is removed at the next start.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import tempfile
import weakref
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

if sys.platform == "linux":
    import fcntl

_PLACES = [Path("/dev/shm"), Path(tempfile.gettempdir())]  # noqa: S108 - opened for its owner only
_PREFIX = f"simscaleai-frames-{os.getuid() if sys.platform == 'linux' else ''}-"
_LAUNCH = ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "SLURM_JOB_ID", "SLURM_STEP_ID")
_PAGE = mmap.PAGESIZE  # after the bytes: the head, then a byte for each rank that has them
_HEAD = struct.Struct("16sq")  # a number of its own, and the process that filled it
_asked: Counter[str] = Counter()


class SharedBytes:
    """Bytes of a mapped file; its pickle holds none, and is for processes of this host."""

    def __init__(self, file: int, size: int) -> None:
        self._file, self._size = file, size
        weakref.finalize(self, os.close, file)
        os.posix_fallocate(file, 0, size + _PAGE)  # a full disk is an error here, not a signal
        self._map = mmap.mmap(file, size + _PAGE)
        self.values = torch.frombuffer(self._map, dtype=torch.uint8, count=size)
        """The bytes, uint8 `[size]`."""

    def fill(self, fill: Callable[[Tensor], object]) -> None:
        """Fill the bytes, unless a process that lives has filled them."""
        if not _is_alive(self._head):
            self._map[self._size :] = bytes(_PAGE)
            fill(self.values)
            _HEAD.pack_into(self._map, self._size, os.urandom(16), os.getpid())

    def reaches_all(self) -> bool:
        """Note that this rank has the bytes, and return whether every rank of the host has."""
        number, first = int(os.environ.get("RANK", "0")), self._size + _HEAD.size
        self._map[first + number % (_PAGE - _HEAD.size)] = 1
        return self._map[first:].count(1) >= int(os.environ.get("LOCAL_WORLD_SIZE") or _ranks())

    @property
    def _head(self) -> bytes:
        return self._map[self._size : self._size + _HEAD.size]

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (f"/proc/{os.getpid()}/fd/{self._file}", self._size, self._head)


def shared_bytes(
    size: int, identity: object, fill: Callable[[Tensor], object]
) -> SharedBytes | Tensor:
    """Return bytes that one process of the run on this host fills; its other ranks wait for it.

    Args:
        size: How many, at least 1.
        identity: What they are: its text is the same in all ranks.
        fill: Fills them, uint8 `[size]`.

    Returns:
        The bytes, which this process has alone, uint8 `[size]`, if the system is not Linux or has
        no room in shared memory and the temporary folder.
    """
    name = _name(identity)
    for path in (place / name for place in _PLACES if sys.platform == "linux"):
        unname = partial(_unlink, path, os.getpid())
        try:
            shared = SharedBytes(file := _locked(path), size)
        except OSError:
            unname()
            continue
        weakref.finalize(shared, unname)
        try:
            if _ranks() == 1:
                unname()
            shared.fill(fill)
            if shared.reaches_all():
                unname()
        except BaseException:
            unname()
            raise
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)
        return shared
    fill(values := torch.empty(size, dtype=torch.uint8))
    return values


def _name(identity: object) -> str:
    """Return a name that is the same in all ranks, and another one if it is asked for again."""
    text = repr((identity, [os.environ.get(name) for name in _LAUNCH]))
    text += "" if _ranks() > 1 else f" of {os.getpid()}"
    _asked[text] += 1
    digest = blake2b(f"{_asked[text]} {text}".encode(), digest_size=16).hexdigest()
    return _PREFIX + digest


def _locked(path: Path) -> int:
    """Return the open file of a name once nobody else fills it; it may be a new one."""
    for left in path.parent.glob(f"{_PREFIX}*"):
        _remove_if_left(left)
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):  # all had it, or its filler failed
            if path.stat().st_ino == os.fstat(file).st_ino:
                return file
        os.close(file)


def _remove_if_left(path: Path) -> None:
    """Remove a file whose processes were killed before all had it."""
    with suppress(OSError), path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.seek(-_PAGE, os.SEEK_END)
        if not _is_alive(file.read(_HEAD.size)):
            path.unlink()


def _reopened(path: str, size: int, head: bytes) -> SharedBytes | None:
    """Return what another process has, or None if it has it no more."""
    with suppress(OSError):
        file = os.open(path, os.O_RDWR)
        if os.pread(file, _HEAD.size, size) == head:
            return SharedBytes(file, size)
        os.close(file)
    return None


def _is_alive(head: bytes) -> bool:
    _, pid = _HEAD.unpack(head)
    return pid > 0 and Path(f"/proc/{pid}").exists()


def _unlink(path: Path, maker: int) -> None:
    if maker == os.getpid():  # and no forked process
        with suppress(OSError):
            path.unlink()


def _ranks() -> int:
    return int(os.environ.get("WORLD_SIZE") or 1)
