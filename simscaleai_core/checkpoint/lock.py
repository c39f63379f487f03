"""One run at a time writes to a checkpoint directory."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
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
        self._holder.write_text(
            json.dumps({"pid": os.getpid(), "host": socket.gethostname()}), "utf-8"
        )

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
        table = json.loads(path.read_text("utf-8"))
        return table if isinstance(table, dict) else {}
    return {}


def launcher() -> str | None:
    """Return what tells torchrun's agent, which started this process, from every other one."""
    return identity_of(os.getppid()) if "TORCHELASTIC_RUN_ID" in os.environ else None


def number_of_run(directory: Path, fresh: int, launchers: Sequence[str | None]) -> tuple[int, bool]:
    """Return the number of a run in its directory, and whether torchrun restarted it.

    A new run takes the `fresh` number, a restarted run keeps its own. It is recognised by any of
    the agents of its ranks: an agent is the parent of all its attempts, on several nodes some of
    them may be new, and a directory may also hold checkpoints of earlier runs.
    """
    agents, process = sorted({name for name in launchers if name}), identity_of(os.getpid())
    path = directory / ".elastic.json"
    noted = _read(path) if agents else {}
    before = noted.get("agents")
    is_ours = isinstance(before, list) and any(name in before for name in agents)
    is_other = bool(noted.get("process") != process)  # a script may also train twice
    is_restart = is_ours and is_other and type(noted.get("run")) is int
    run: int = noted["run"] if is_restart else fresh
    if agents:
        path.write_text(json.dumps({"agents": agents, "process": process, "run": run}), "utf-8")
    return run, is_restart


def identity_of(pid: int) -> str:
    """Return host, number and time of birth of a process; Linux tells the last."""
    born = ""
    with suppress(OSError):
        born = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[19]
    return f"{socket.gethostname()}:{pid}:{born}"


def is_alive(pid: int) -> bool:
    """Return whether a process of this host exists; where that cannot be asked, it may."""
    if pid <= 0 or os.name != "posix":  # os.kill would be Ctrl-C on Windows
        return pid > 0
    try:
        os.kill(pid, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True
