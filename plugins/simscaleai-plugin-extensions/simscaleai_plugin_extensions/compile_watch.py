"""What torch compiles while it trains: the time, the reasons, and where graphs break."""

from __future__ import annotations

import logging
import re
import time
from typing import Any

from torch._dynamo.callback import callback_handler
from torch._dynamo.utils import get_compilation_metrics

_BREAKS = (
    "torch._dynamo.symbolic_convert.__graph_breaks",
    "torch._dynamo.convert_frame.__graph_breaks",
)
_FRAMES = "torch._dynamo.convert_frame"
_PLACE = re.compile(r"user code at (\S+:\d+)|tracing the frame (.+?) and fall")
_WHY = re.compile(r"^\s*Explanation: (.+)$", re.MULTILINE)
_REASON = re.compile(r"^Graph Break Reason: (.+)$", re.MULTILINE)
_LENGTH = 200


class CompileWatch:
    """Listens to torch's compiler while its context is entered; one thread compiles at a time."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._took_s = 0.0
        self._seen_us = 0
        self._compiled = False
        self._known: set[str] = set()
        self._lines: list[str] = []
        self._levels: dict[str, int] = {}

    def __enter__(self) -> CompileWatch:
        """Begin to listen."""
        callback_handler.register_start_callback(self._start)
        callback_handler.register_end_callback(self._end)
        self._seen_us = time.time_ns() // 1000
        for name in (*_BREAKS, _FRAMES):
            own = logging.getLogger(name)
            own.addFilter(self._heard)
            self._levels[name] = own.level
            if name in _BREAKS:
                own.setLevel(logging.DEBUG)
        return self

    def __exit__(self, *_: object) -> None:
        """Listen no more."""
        callback_handler.remove_start_callback(self._start)
        callback_handler.remove_end_callback(self._end)
        for name, level in self._levels.items():
            own = logging.getLogger(name)
            own.removeFilter(self._heard)
            own.setLevel(level)

    @property
    def has_news(self) -> bool:
        """Whether something was compiled, or has gone wrong, since `news` was called."""
        return bool(self._took_s or self._lines)

    def news(self, step: int) -> tuple[float, list[str]]:
        """Return what has happened since the last call.

        Args:
            step: The step that has just ended.

        Returns:
            Time that compiling has taken [s], and lines to tell.
        """
        took_s, lines, reasons = self._took_s, self._lines, self._reasons()
        self._took_s, self._lines = 0.0, []
        if took_s and not self._compiled:
            lines = [f"compiled in {took_s:.1f} s", *lines]
        elif took_s:
            why = f": {reasons[0]}" if reasons else ""
            lines = [f"compiled again at step {step} in {took_s:.1f} s{why}", *lines]
        self._compiled = self._compiled or took_s > 0
        return took_s, lines

    def _start(self, _: Any) -> None:
        self._began = time.perf_counter()

    def _end(self, _: Any) -> None:
        if self._began is not None:
            self._took_s += time.perf_counter() - self._began
        self._began = None

    def _reasons(self) -> list[str]:
        """Return why graphs that were there did not fit, of what was compiled since last time."""
        fresh = [m for m in get_compilation_metrics() if (m.start_time_us or 0) > self._seen_us]
        self._seen_us = max([self._seen_us, *(m.start_time_us or 0 for m in fresh)])
        return [_one_line(m.recompile_reason) for m in fresh if m.recompile_reason]

    def _heard(self, record: logging.LogRecord) -> bool:
        """Note a graph break or the end of compiling again; return whether torch may tell it."""
        if record.name == _FRAMES:
            text = record.getMessage()
            if "hit config." not in text or not isinstance(record.args, tuple):
                return True
            limit, function, reason = (_one_line(str(record.args[i])) for i in (1, 2, 3))
            self._tell(
                f"compiled {limit} times, which is the limit: {function} runs uncompiled from now "
                f"on where none of them fits; the last reason: {reason}"
            )
            return False
        text = record.getMessage()
        if record.exc_info and record.exc_info[1]:
            text += f"\n{record.exc_info[1]}"
        place, why = _PLACE.search(text), _WHY.search(text) or _REASON.search(text)
        where = next(filter(None, place.groups()), "?") if place else "?"
        self._tell(f"graph break at {where}: {_one_line(why[1] if why else text)}")
        return self._levels.get(record.name, 0) not in {0, logging.NOTSET}

    def _tell(self, line: str) -> None:
        """Tell a line once."""
        if line not in self._known:
            self._known.add(line)
            self._lines.append(line)


def _one_line(text: str) -> str:
    line = " ".join(text.partition("(HINT")[0].split())
    return line if len(line) <= _LENGTH else f"{line[: _LENGTH - 3]}..."
