"""A limit on the time that a call into somebody else's code may take.

The limit is a timer of the operating system whose signal interrupts the call. It interrupts Python
code and what waits in the operating system: sleeping, files, sockets, locks. It cannot interrupt
compiled code that computes without end and never returns to the interpreter; only a process of its
own can be ended then. There is no limit in a thread other than the main one, and none on Windows.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

_AGAIN_S = 1.0  # in case that the code swallows the first interruption
_SOON_S = 1e-3  # a timer of 0 s would be none

# Without the standard library's conversions to enums, which take longer than all the rest here.
_handler: Callable[..., Any] = getattr(signal.getsignal, "__wrapped__", signal.getsignal)


class TimeLimitReached(BaseException):
    """The time of a call is up; no `Exception`, so that a broad ``except`` does not swallow it."""


def limited(limit_s: float, call: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Return what a call gives, and interrupt it when its time is up.

    Limits may be nested, and a timer that the caller has started goes on afterwards.

    Args:
        limit_s: Time that the call may take [s].
        call: What to call.
        arguments: Its arguments.
        keywords: Its keyword arguments.

    Raises:
        TimeLimitReached: If the time is up.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        return call(*arguments, **keywords)
    if _handler(signal.SIGALRM) is not _timers.on_alarm:
        _timers.install()
    _timers.num_running += 1
    started, outer_s, again_s = monotonic(), 0.0, 0.0
    try:
        outer_s, again_s = signal.setitimer(signal.ITIMER_REAL, limit_s, _AGAIN_S)
        try:
            return call(*arguments, **keywords)
        finally:
            if outer_s:
                outer_s = max(outer_s - (monotonic() - started), _SOON_S)
            signal.setitimer(signal.ITIMER_REAL, outer_s, again_s)
    except TimeLimitReached:
        # Once more: it may have come while the timer was being stopped.
        signal.setitimer(signal.ITIMER_REAL, outer_s, again_s)
        raise
    finally:
        _timers.num_running -= 1


class _Timers:
    """The handler of the timer's signal, which stays: installing it takes longer than a timer."""

    def __init__(self) -> None:
        self.num_running = 0
        self._before: Any = None
        self.on_alarm = self._on_alarm  # one object, that it may be recognised

    def install(self) -> None:
        """Take the signal; outside of limited calls it is handed on to who had it before."""
        self._before = signal.signal(signal.SIGALRM, self.on_alarm)

    def _on_alarm(self, number: int, frame: Any) -> None:
        if self.num_running:
            raise TimeLimitReached
        if callable(self._before):
            self._before(number, frame)


_timers = _Timers()
