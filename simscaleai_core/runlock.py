"""One run at a time writes to a checkpoint directory."""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from simscaleai_core.errors import SaveError


class RunLock:
    """A file that names the process that writes to a directory.

    A lock left by a process of this host that is gone is taken over; one of another host cannot be
    judged and is respected.

    Args:
        directory: The checkpoint directory.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / ".lock"
        self._is_held = False

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            SaveError: If another run holds it.
        """
        me = {"pid": os.getpid(), "host": socket.gethostname()}
        whole = self._path.with_name(f".lock.tmp-{os.getpid()}")
        whole.write_text(json.dumps(me))
        holder: dict[str, Any] = {}
        try:
            for _ in range(2):
                try:
                    os.link(whole, self._path)  # appears with its content or not at all
                except FileExistsError:
                    holder = self._holder()
                    if holder and holder != me and not _is_gone(holder):
                        break
                    self._path.unlink(missing_ok=True)
                else:
                    self._is_held = True
                    return
        finally:
            whole.unlink(missing_ok=True)
        raise SaveError(
            f"{self._path.parent} is in use by another run: process {holder.get('pid', '?')} on "
            f"{holder.get('host', '?')}. Choose another checkpoint_dir, or remove {self._path} if "
            "that run is gone.",
            path=self._path.parent,
        )

    def release(self) -> None:
        """Give the lock back, if it is held."""
        if self._is_held:
            self._path.unlink(missing_ok=True)
            self._is_held = False

    def _holder(self) -> dict[str, Any]:
        """Return who holds the lock; nothing if what is there was never a lock of ours."""
        try:
            holder = json.loads(self._path.read_text())
            pid, host = holder["pid"], holder["host"]
        except (OSError, ValueError, TypeError, KeyError):
            return {}
        is_ours = type(pid) is int and pid > 0 and isinstance(host, str)
        return {"pid": pid, "host": host} if is_ours else {}


def _is_gone(holder: dict[str, Any]) -> bool:
    return bool(holder["host"] == socket.gethostname() and not is_alive(holder["pid"]))


def number_of_run(directory: Path, fresh: int) -> tuple[int, bool]:
    """Return the number of a run in its directory, and whether torchrun restarted it.

    A restarted run keeps its number. It is recognised by torchrun's agent, which is the parent of
    all its attempts; a directory may also hold checkpoints of earlier runs.

    Args:
        directory: The checkpoint directory.
        fresh: The number that a new run would take.

    Returns:
        The number, and whether this is a restart.
    """
    attempts = os.environ.get("TORCHELASTIC_RESTART_COUNT")
    if attempts is None:
        return fresh, False
    path = directory / ".elastic.json"
    if int(attempts) > 0:
        with suppress(OSError, ValueError):
            noted = json.loads(path.read_text())
            if noted["agent"] == os.getppid():
                return int(noted["run"]), True
    path.write_text(json.dumps({"agent": os.getppid(), "run": fresh}))
    return fresh, False


def is_alive(pid: int) -> bool:
    """Return whether a process of this host exists."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
