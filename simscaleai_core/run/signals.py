"""SIGTERM and SIGINT as a flag that the loop reads between steps; SIGUSR1 as a request to save."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_EXIT_STATUS_OF_SIGNAL = 128  # the shell's convention: 128 + signal number


class SignalFlag:
    """Turns the first SIGTERM or SIGINT into a flag; the second one acts at once.

    A handler does nothing else: no input or output, no communication between ranks. Outside the
    main thread, where Python delivers no signals, it never rises. The handlers that were there
    before come back on exit. SIGUSR1 calls `on_usr1`, which must only set a flag.
    """

    def __init__(self, on_usr1: Callable[[], None]) -> None:
        self.name = ""
        self._on_usr1 = on_usr1
        self._number = 0
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> SignalFlag:
        """Install the handlers."""
        if threading.current_thread() is threading.main_thread():
            handlers: dict[Any, Any] = dict.fromkeys((signal.SIGTERM, signal.SIGINT), self._handle)
            if hasattr(signal, "SIGUSR1"):  # not on Windows
                handlers[signal.SIGUSR1] = lambda *_: self._on_usr1()
            self._previous = {number: signal.signal(number, h) for number, h in handlers.items()}
        return self

    def __exit__(self, *_: object) -> None:
        """Put the earlier handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def leave(self) -> None:
        """Leave as the signal wanted, now that the run is saved."""
        if self._number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(_EXIT_STATUS_OF_SIGNAL + signal.SIGTERM)  # also if another rank got it

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.name:
            os._exit(_EXIT_STATUS_OF_SIGNAL + number)
        self.name = signal.Signals(number).name
        self._number = number
