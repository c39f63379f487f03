"""A real command on a real terminal, and what a person would see there."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

import pyte

MAIN = (sys.executable, "-m", "simscaleai_core")
PATIENCE_S = 120.0
BAR = "\u2501"  # what rich draws a bar with
_HEIGHT = 40
_FOREIGN = ("COLUMNS", "LINES", "NO_COLOR", "COLORTERM", "RANK", "SIMSCALE_PLUGIN")
_IN_FOREGROUND = """\
import fcntl, os, signal, sys, termios
fcntl.ioctl(2, termios.TIOCSCTTY, 0)  # whose keys send signals
signal.signal(signal.SIGINT, signal.SIG_DFL)  # which a shell's background jobs ignore
os.execvp(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A terminal of some columns, in which one command runs; it interprets what is written.

    Args:
        command: The command.
        folder: Where it runs.
        columns: Width.
        environ: Added to the environment.
        results: What standard output is, if not the terminal.
    """

    def __init__(
        self,
        *command: object,
        folder: Path,
        columns: int = 80,
        environ: Mapping[str, str] | None = None,
        results: Path | None = None,
    ) -> None:
        self._screen = pyte.HistoryScreen(columns, _HEIGHT, history=1000)
        self._stream = pyte.ByteStream(self._screen)
        self._terminal, inner = pty.openpty()
        self.resize(columns)
        self.raw = b""
        """What was written."""
        self.screens: list[list[str]] = [[]]
        """Each different screen that was seen."""
        kept = {k: v for k, v in os.environ.items() if k not in _FOREIGN}
        output = inner if results is None else os.open(results, os.O_WRONLY | os.O_CREAT)
        self._child = subprocess.Popen(
            [sys.executable, "-c", _IN_FOREGROUND, *map(str, command)],
            cwd=folder,
            env={**kept, "TERM": "xterm-256color", "OMP_NUM_THREADS": "1", **(environ or {})},
            stdin=inner,
            stdout=output,
            stderr=inner,
            start_new_session=True,
        )
        for descriptor in {inner, output}:
            os.close(descriptor)

    def __enter__(self) -> Terminal:
        """Return the terminal."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        """End the command if it still runs."""
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()
        os.close(self._terminal)

    @property
    def lines(self) -> list[str]:
        """What the screen shows, without the empty lines at its end."""
        shown = [line.rstrip() for line in self._screen.display]
        while shown and not shown[-1]:
            shown.pop()
        return shown

    @property
    def text(self) -> str:
        """What the screen shows, and what has scrolled out of it."""
        above = self._screen.history.top
        gone = ["".join(row[x].data for x in range(self._screen.columns)) for row in above]
        return "\n".join([*(line.rstrip() for line in gone), *self.lines])

    @property
    def is_clean(self) -> bool:
        """Whether a shell's prompt would come below all that is there, and be seen."""
        cursor = self._screen.cursor
        is_below = cursor.y >= len(self.lines) or cursor.y == _HEIGHT - 1
        return is_below and cursor.x == 0 and not cursor.hidden

    def resize(self, columns: int) -> None:
        """Make the terminal as wide as that."""
        size = struct.pack("HHHH", _HEIGHT, columns, 0, 0)
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, size)
        self._screen.resize(_HEIGHT, columns)

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._terminal, keys)

    def wait_for(self, pattern: str) -> list[str]:
        """Read until the screen shows a pattern; return the screen."""
        self._read(lambda: re.search(pattern, "\n".join(self.lines)) is not None, pattern)
        return self.lines

    def finish(self) -> int:
        """Read to the end; return the exit status."""
        self._read(lambda: False, None)
        return self._child.wait(PATIENCE_S)

    def _read(self, is_there: Callable[[], bool], wanted: str | None) -> None:
        until = time.monotonic() + PATIENCE_S
        while not is_there():
            assert time.monotonic() < until, f"no {wanted!r} on\n{self.text}"
            if not select.select([self._terminal], [], [], 1)[0]:
                continue
            try:
                part = os.read(self._terminal, 65536)
            except OSError:  # the command has ended
                part = b""
            if not part:
                assert wanted is None, f"no {wanted!r} on\n{self.text}"
                return
            self.raw += part
            self._stream.feed(part)
            if self.lines != self.screens[-1]:
                self.screens.append(self.lines)


def bars(lines: list[str]) -> list[str]:
    """Return the lines that have a bar."""
    return [line for line in lines if BAR in line]
