"""Ctrl-C: one line and exit status 130, whenever it comes and however often.

Until a command runs, and during every import, the process leaves at once: nothing has begun that
would have to be undone, and an exception could be lost in a plugin, become another one, or abort
the process in the C++ start of a library. Otherwise the first Ctrl-C of a command is a
`KeyboardInterrupt`, so that the command can put things in order, and the second leaves at once.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from types import FrameType

from simscaleai_core.cli import live

STATUS = 130
"""Exit status after Ctrl-C, as shells write it."""

_STANDARD_ERROR = 2
_IMPORTING = "<frozen importlib._bootstrap>"
_is_told = False


def leave_at_once() -> None:
    """From now on Ctrl-C ends the process, unless someone else has settled what it does."""
    if signal.getsignal(signal.SIGINT) in {signal.default_int_handler, _raise}:
        signal.signal(signal.SIGINT, _leave)


def raise_first() -> None:
    """From now on the first Ctrl-C is an exception, if it would have ended the process."""
    global _is_told  # noqa: PLW0603 - one process, one line
    _is_told = False
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, _raise)


def tell() -> int:
    """Say once that the command was interrupted, and return the exit status."""
    global _is_told  # noqa: PLW0603 - likewise
    if not _is_told:
        _is_told = True
        rank = f" (rank {os.environ['RANK']})" if "RANK" in os.environ else ""
        with suppress(OSError):  # whoever closed it does not want to know
            os.write(_STANDARD_ERROR, f"error{rank}: interrupted\n".encode())
    return STATUS


def _leave(number: int, frame: FrameType | None) -> None:
    del number, frame
    with suppress(OSError):
        os.write(_STANDARD_ERROR, live.row.close())
    os._exit(tell())


def _raise(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, _leave)
    inner = frame
    while inner is not None:
        if inner.f_code.co_filename == _IMPORTING:
            _leave(number, frame)
        inner = inner.f_back
    raise KeyboardInterrupt
