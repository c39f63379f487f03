"""One run at a time writes to a checkpoint directory."""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from simscaleai_core.errors import SaveError


class RunLock:
    """A lock on a checkpoint directory that ends with the process that holds it, however that ends.

    ``.lock.json`` beside it names the holder, for messages only.
    """

    def __init__(self, directory: Path) -> None:
        self._lock = FileLock(directory / ".lock")
        self._holder = directory / ".lock.json"

    def acquire(self) -> None:
        """Take the lock, or raise a `SaveError` if another run holds it."""
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            holder = _read(self._holder)
            raise SaveError(
                f"{self._holder.parent} is in use by another run: process {holder.get('pid', '?')} "
                f"on {holder.get('host', '?')}. Choose another checkpoint_dir, or end that run.",
                path=self._holder.parent,
            ) from None
        self._holder.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))

    def release(self) -> None:
        """Give the lock back, if it is held."""
        if self._lock.is_locked:
            for path in (self._holder, Path(self._lock.lock_file)):
                with suppress(OSError):  # Windows keeps a file that is open
                    path.unlink()
            self._lock.release()


def _read(path: Path) -> dict[str, Any]:
    """Return a table of a JSON file; nothing if the file is none of ours."""
    with suppress(OSError, ValueError):
        table = json.loads(path.read_text())
        return table if isinstance(table, dict) else {}
    return {}


def number_of_run(directory: Path, fresh: int) -> tuple[int, bool]:
    """Return the number of a run in its directory, and whether torchrun restarted it.

    A new run takes the `fresh` number, a restarted run keeps its own. It is recognised by
    torchrun's agent, which is the parent of all its attempts; a directory may also hold
    checkpoints of earlier runs.
    """
    attempts = os.environ.get("TORCHELASTIC_RESTART_COUNT")
    if attempts is None:
        return fresh, False
    path = directory / ".elastic.json"
    noted = _read(path)
    if int(attempts) > 0 and noted.get("agent") == os.getppid() and type(noted.get("run")) is int:
        return noted["run"], True
    path.write_text(json.dumps({"agent": os.getppid(), "run": fresh}))
    return fresh, False


def is_alive(pid: int) -> bool:
    """Return whether a process of this host exists."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True
