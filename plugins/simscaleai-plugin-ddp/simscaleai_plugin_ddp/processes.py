"""Processes of this machine, told apart from later ones of the same number."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from pathlib import Path

from simscaleai_core.checkpoint.lock import identity_of


def end_process(identity: str) -> None:
    """Kill a process of this machine: one that is stopped hears no other signal.

    Args:
        identity: What `identity_of` says of the process.
    """
    host, pid, _ = identity.split(":") if identity.count(":") == 2 else ("", "", "")
    if host == socket.gethostname() and identity_of(int(pid)) == identity:
        with suppress(OSError):
            os.kill(int(pid), signal.SIGKILL)


def has_ended(identity: str) -> bool:
    """Return whether a process of this machine has ended; False of another machine's.

    Args:
        identity: What `identity_of` says of the process.
    """
    host, pid, born = identity.split(":") if identity.count(":") == 2 else ("", "", "")
    if host != socket.gethostname() or not born:
        return False
    try:
        rest = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    except OSError:
        return True
    return rest[0] in {"Z", "X"} or rest[19] != born
