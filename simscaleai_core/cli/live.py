r"""One row under all that is printed, drawn again and again while something takes long.

The cursor stays where the next text goes; the row is on the line below it, and the cursor is put
back after each drawing. So whatever writes to the terminal by itself, such as C code, a worker or
another rank, writes above the row; nothing is hidden that would have to be shown again, and a
process that is killed leaves a terminal that works.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from typing import TextIO

from simscaleai_core.cli import terminal

_ERASE = "\x1b[J"  # from the cursor to the end of the screen
_BELOW = "\x1b[K\x1bD\x1b[A\x1b7\r\n"  # make room below, which may scroll; remember the place
_BACK = "\x1b[J\x1b8"
_NO_CONTROL = ("", "dumb", "unknown")  # values of TERM


def is_possible() -> bool:
    """Return whether a person sees standard error on a terminal that can show a row."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in _NO_CONTROL


class Row:
    """The row, and the streams that share its terminal; there is one in a process."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._text = ""
        self._guards: list[_Guard] = []
        self._is_line_begun = False
        self._is_closed = False
        self._is_of_parent = False

    @property
    def is_anothers(self) -> bool:
        """Whether another process draws it: the parent of this one, or rank 0."""
        return self._is_of_parent or not terminal.is_first_rank()

    def draw(self, text: str) -> None:
        """Show a row of text that fits the terminal, in place of the one before; none if empty."""
        with self._lock:
            if self._is_closed or not _is_in_foreground():
                return
            if not text:
                self.erase()
                return
            self.guard()
            self._text = text
            with suppress(OSError):  # the terminal is gone
                self._guards[0].put(self._drawn())

    def erase(self) -> None:
        """Take the row away, and let go of the streams."""
        with self._lock:
            if self._text:
                with suppress(OSError):
                    self._guards[0].put(self._erased())
            self._text = ""
            for guard in self._guards:
                guard.end()
            self._guards = []
            self._is_line_begun = False

    def guard(self) -> None:
        """Have all that this process writes to the terminal stand above the row."""
        if self._guards:
            return
        self._guards = [_Guard(stream, self) for stream in terminal.shown()]

    def write_above(self, guard: _Guard, text: str) -> None:
        """Write text of a stream, and the row again below it."""
        with self._lock:
            if not (self._text or self.is_anothers):
                guard.put(text)
            elif text:
                erased = self._erased()
                self._is_line_begun = not text.endswith("\n")
                guard.put(erased + text + self._drawn())

    def close(self) -> bytes:
        """Draw no more, and return what takes the row away."""
        self._is_closed = True  # waits for no lock: a signal may have come during a drawing
        shown, self._text = self._text, ""
        return self._erased().encode() if shown else b""

    def _drawn(self) -> str:
        return "" if self.is_anothers else f"{_BELOW}{self._text}{_BACK}"

    def _erased(self) -> str:
        """Return what takes the row away, and what a terminal has echoed before it, such as ^C."""
        return _ERASE if self._is_line_begun or self.is_anothers else f"\r{_ERASE}"

    def before_fork(self) -> None:
        """Let no thread be in the middle of a drawing."""
        self._lock.acquire()

    def after_fork(self) -> None:
        """Go on in the parent."""
        self._lock.release()

    def in_child(self) -> None:
        """Leave the row to the parent."""
        self._lock = threading.RLock()
        self._is_of_parent = self._is_of_parent or bool(self._guards)


class _Guard:
    """The ``write`` of a stream; it belongs to the object that logging handlers hold, too."""

    def __init__(self, stream: TextIO, owner: Row) -> None:
        self._stream, self._owner = stream, owner
        self._write = stream.write
        stream.write = self  # type: ignore[method-assign]

    def __call__(self, text: str) -> int:
        self._owner.write_above(self, text)
        return len(text)

    def put(self, text: str) -> None:
        """Write as the stream itself does, at once."""
        self._write(text)
        self._stream.flush()

    def end(self) -> None:
        """Give the stream its own ``write`` back, unless someone else has taken it since."""
        if vars(self._stream).get("write") is self:
            del self._stream.write


def _is_in_foreground() -> bool:
    """Return whether the terminal is ours; in the background of a shell it is the shell's."""
    try:
        return os.tcgetpgrp(sys.stderr.fileno()) == os.getpgrp()
    except (OSError, AttributeError):  # no controlling terminal, as under torchrun; Windows
        return True


row = Row()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=row.before_fork, after_in_parent=row.after_fork, after_in_child=row.in_child
    )
