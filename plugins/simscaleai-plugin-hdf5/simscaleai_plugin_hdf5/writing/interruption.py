"""Ctrl-C that waits while HDF5 writes.

HDF5 writes through a file object of ours, and an exception in the middle of that looks to it like a
failed write, after which HDF5 2.0 crashes the process when the file is closed (measured: SIGSEGV).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back until the body is over; then it does what it would have done."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    pressed: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda *given: pressed.append(given))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        for given in pressed:
            before(*given)
