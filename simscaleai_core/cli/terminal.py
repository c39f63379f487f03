"""The one place that writes to standard output and standard error; it escapes what commands them.

Names, keys, instructions and messages come from other people's files. A control character in them
could clear the screen, hide a line, or show another text than there is.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from simscaleai_core.errors import SimScaleError

_COMMANDS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""C0, DEL, C1, line and paragraph separators, what changes the direction, and lone surrogates."""


_results: TextIO | None = None
_is_quiet = False


def be_quiet(on: bool) -> None:
    """Say only results, warnings and errors from now on, or everything."""
    global _is_quiet  # noqa: PLW0603 - one process, one person who reads
    _is_quiet = on


def is_quiet() -> bool:
    """Return whether only results, warnings and errors are wanted."""
    return _is_quiet


def is_first_rank() -> bool:
    """Return whether this process speaks for all: it is rank 0, or alone."""
    return os.environ.get("RANK", "0") == "0"


def results() -> TextIO:
    """Return the stream of standard output, also while what others print is diverted from it."""
    return _results or sys.stdout


def shown() -> list[TextIO]:
    """Return the streams that a person sees on a terminal, standard error first."""
    streams = {id(stream): stream for stream in (sys.stderr, sys.stdout, results())}
    return [stream for stream in streams.values() if stream.isatty()]


def columns(*, error: bool = False) -> int:
    """Return how wide a line of standard output, or of standard error, may be, now.

    The last column stays free, or the line would wrap; without a terminal nothing is too wide.
    """
    stream = sys.stderr if error else results()
    if not stream.isatty():
        return sys.maxsize
    try:
        found = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        found = 0
    return max((found or shutil.get_terminal_size().columns) - 1, 1)


@contextmanager
def diverted() -> Iterator[None]:
    """While the body runs, what others print comes to standard error; `write` works as before."""
    undo = divert()
    try:
        yield
    finally:
        undo()


def divert() -> Callable[[], None]:
    """Send what is printed to standard error; only `write` reaches standard output.

    Plugins and libraries print as they are imported and as they work, also from C and in child
    processes, and a program that reads the results must get nothing else.

    Returns:
        A function that ends it.
    """
    global _results  # noqa: PLW0603 - one process, one standard output
    stream, before, kept = sys.stdout, _results, -1
    if before is None and _is_descriptor(stream, 1) and _is_descriptor(sys.stderr, 2):
        stream.flush()
        kept = os.dup(1)
        _results = os.fdopen(kept, "w", encoding=stream.encoding, errors=stream.errors)
        os.dup2(2, 1)
    else:
        _results = before or stream
    sys.stdout = sys.stderr
    diverting = _results

    def undo() -> None:
        global _results
        sys.stdout, _results = stream, before
        if kept >= 0:
            os.dup2(kept, 1)
            with suppress(OSError):  # said when it was written
                diverting.close()

    return undo


def _is_descriptor(stream: TextIO, number: int) -> bool:
    try:
        return stream.fileno() == number
    except (OSError, ValueError, AttributeError):
        return False


def escaped(text: str, *, kept: str = "") -> str:
    r"""Return text with its control characters written out, but for those of `kept`.

    Example:
        >>> print(escaped("reach" + chr(27) + "[2J" + chr(0x202E)))
        reach\x1b[2J\u202e
    """

    def written(found: re.Match[str]) -> str:
        character = found[0]
        return character if character in kept else character.encode("unicode_escape").decode()

    return _COMMANDS.sub(written, text)


def write(text: str, *, error: bool = False, kept: str = "\n") -> None:
    """Write text to standard output, or to standard error, at once.

    That nobody reads standard error any more is no reason to stop what is said there.

    Args:
        text: What to write, with its line ends; what the encoding cannot express is escaped too.
        error: Whether it is for standard error.
        kept: Control characters of our own.

    Raises:
        SimScaleError: If standard output takes no more, such as a file on a full disk.
        OSError: If nobody reads standard output any more (a broken pipe).
    """
    stream = sys.stderr if error else results()
    encoding = getattr(stream, "encoding", None) or "utf-8"
    shown = escaped(text, kept=kept).encode(encoding, "backslashreplace").decode(encoding)
    try:
        stream.write(shown)
        stream.flush()
    except OSError as fault:
        if not error and isinstance(fault, BrokenPipeError):
            raise
        if not error:
            raise SimScaleError(f"cannot write to standard output: {fault.strerror}.") from fault
