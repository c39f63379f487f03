"""Whether this process does anything, and where it stands; read from outside, at no cost to it."""

from __future__ import annotations

import itertools
import os
import sys
import sysconfig
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType

_BUSY_FRACTION = 0.05
"""Share of one processor that counts as work; a waiting process uses a tenth of it."""
_SAVING = "simscale-save"
_PHASES = {
    "_setup": "setting up",
    "_step": "train step",
    "_log": "logging",
    "_evaluate": "evaluating",
    "_save": "saving",
    "_save_missing": "saving",
}
_WAITS = ("torch.distributed", "torch.autograd.graph", "torch.nn.parallel")
_LIBRARY = sysconfig.get_paths()["stdlib"]
_MOST_FRAMES = 35
WATCHING = "simscale-watch"
"""Name of the threads that look; they are no part of what they look at."""


class Signs:
    """Signs of work of one thread and of the processes that it has started.

    A sign is a Python stack, of that thread or of one that saves, which is not where it was; or
    processor time. The latter is the process's own only where waiting takes none: a thread that
    waits for a GPU may spin.

    Args:
        window_s: Over how long processor time is averaged [s].
        counts_own: Whether the process's own processor time is a sign.
    """

    def __init__(self, window_s: float, *, counts_own: bool) -> None:
        self.thread = threading.get_ident()
        self._window_s, self._counts_own = window_s, counts_own
        self._before: object = None
        self._used: deque[tuple[float, float]] = deque()
        self._at = time.monotonic()

    def still_s(self) -> float:
        """Return for how long there has been no sign [s]; to be called again and again."""
        now, places = time.monotonic(), self._places()
        if places != self._before:  # the usual case, and the cheap one
            self._at, self._before = now, places
            self._used.clear()
            return 0.0
        used_s = processor_s(os.getpid(), own=self._counts_own)
        self._used.append((now, used_s))
        while len(self._used) > 1 and now - self._used[1][0] > self._window_s:
            self._used.popleft()
        since, before_s = self._used[0]
        if used_s - before_s > _BUSY_FRACTION * max(now - since, self._window_s):
            self._at = now
        return now - self._at

    def _places(self) -> object:
        """Return where the thread and those that save stand, as something to compare."""
        watched = {self.thread}
        watched |= {t.ident for t in threading.enumerate() if t.ident and t.name == _SAVING}
        return {
            number: tuple((id(f.f_code), f.f_lasti) for f in _outwards(_innermost(number)))
            for number in watched
        }

    def where(self) -> tuple[str, str, bool]:
        """Return what the run does, in which line, and whether it waits for other ranks there."""
        frames = list(_outwards(_innermost(self.thread)))
        named = [(f.f_globals.get("__name__", ""), f.f_code.co_name) for f in frames]
        loop = next((n for m, n in named if m == "simscaleai_core.loop" and n in _PHASES), "")
        reads = any(m == "simscaleai_core.data.feed" for m, _ in named)
        phase = _PHASES.get(loop) or ("waiting for data" if reads else "between steps")
        torch = [module for module, _ in _until_ours(frames, named)]
        waits = any(module.startswith(_WAITS) for module in torch)
        ours = next((f for f in frames[len(torch) :]), None)
        if ours is None:
            return phase, "", waits
        name = Path(ours.f_code.co_filename).name
        return phase, f"{name}:{ours.f_lineno} {ours.f_code.co_name}", waits


def _innermost(thread: int) -> FrameType | None:
    """Return the frame of another thread's innermost call.

    All frames together must not be kept in a variable: it would be in one of them, and this circle
    would keep alive what any thread has in its variables.
    """
    return sys._current_frames().get(thread)


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _until_ours(frames: list[FrameType], named: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield the innermost frames that are of torch or of Python's own library."""
    for frame, name in zip(frames, named, strict=True):
        is_torch = name[0] == "torch" or name[0].startswith("torch.")
        path = frame.f_code.co_filename
        if not is_torch and ("site-packages" in path or not path.startswith(_LIBRARY)):
            return
        yield name


def stacks() -> list[str]:
    """Return the Python stack of each thread of this process, innermost call first."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return [
        "\n".join([f"thread {names.get(number, number)}:", *_lines(frame)])
        for number, frame in sys._current_frames().items()
        if names.get(number) != WATCHING
    ]


def _lines(frame: FrameType) -> Iterator[str]:
    for f in itertools.islice(_outwards(frame), _MOST_FRAMES):
        yield f"  {f.f_code.co_filename}:{f.f_lineno} {f.f_code.co_name}"


def processor_s(pid: int, *, own: bool) -> float:
    """Return the processor time of a process and of all that it has started [s].

    Args:
        pid: Number of the process.
        own: Whether that of the process itself counts.
    """
    if not Path("/proc").is_dir():
        times = os.times()
        mine = times.user + times.system if own else 0.0
        return mine + times.children_user + times.children_system
    return _ticks(pid, own=own) / os.sysconf("SC_CLK_TCK")


def _ticks(pid: int, *, own: bool) -> int:
    place, total = Path(f"/proc/{pid}"), 0
    with suppress(OSError):  # it has ended
        values = list(
            map(int, (place / "stat").read_text("utf-8").rpartition(")")[2].split()[11:15])
        )
        total = sum(values if own else values[2:])
        for path in place.glob("task/*/children"):
            total += sum(
                _ticks(child, own=True) for child in map(int, path.read_text("utf-8").split())
            )
    return total
