"""What code holds after it has ended: open files, processes, environments that nobody closed."""

from __future__ import annotations

import functools
import gc
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_DESCRIPTORS = Path("/proc/self/fd")
_NO_FILES = ("/dev/", "/proc/", "/sys/", "/memfd:")
_PYTHONS_OWN = "multiprocessing.resource_tracker"  # started once, for as long as Python runs


def open_files() -> Counter[str]:
    """Return how often each file is open in this process; empty if the system does not tell."""
    found: list[str] = []
    if _DESCRIPTORS.is_dir():
        for descriptor in os.listdir(_DESCRIPTORS):  # noqa: PTH208 - names are enough
            with suppress(OSError):  # the one of the listing itself is closed by now
                found.append(str((_DESCRIPTORS / descriptor).readlink()))
    return Counter(f for f in found if f.startswith("/") and not f.startswith(_NO_FILES))


def child_processes() -> dict[int, str]:
    """Return the running processes that this one started: number to command."""
    found: dict[int, str] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended by now
            state, parent = (entry / "stat").read_text("utf-8").rpartition(")")[2].split()[:2]
            if int(parent) == os.getpid() and state != "Z":
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(entry.name)] = words.decode(errors="replace").strip()
    return {number: text for number, text in found.items() if _PYTHONS_OWN not in text}


@contextmanager
def watched_leaks() -> Iterator[list[str]]:
    """Watch what the body opens and starts.

    Yields:
        A list that is filled after the body with what is still open or running, in words.
    """
    left: list[str] = []
    files, processes = open_files(), child_processes()
    yield left
    found = _left_since(files, processes)
    if found:
        gc.collect()  # what hangs in a cycle is let go of in time
        found = _left_since(files, processes)
    left += found


def _left_since(files: Counter[str], processes: dict[int, str]) -> list[str]:
    more = open_files() - files
    started = {n: text for n, text in child_processes().items() if n not in processes}
    return [
        *(f"{Path(path).name} open {count} times more" for path, count in sorted(more.items())),
        *(f"the process {text:.60} still running" for text in started.values()),
    ]


@contextmanager
def watched_temporary_files(folder: Path) -> Iterator[list[str]]:
    """Give the body a folder of its own for temporary files.

    Args:
        folder: The folder; it is made if it is not there.

    Yields:
        A list that is filled after the body with the names of what is left in it.
    """
    folder.mkdir(exist_ok=True)
    there = set(folder.iterdir())
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    left: list[str] = []
    try:
        yield left
    finally:
        tempfile.tempdir = before
    left += sorted(path.name for path in set(folder.iterdir()) - there)


@contextmanager
def watched_envs() -> Iterator[list[str]]:
    """Watch the environments that the body makes, of classes that are imported by now.

    Yields:
        A list that is filled after the body with the classes of those that were never closed.
    """
    made: dict[int, Any] = {}  # keeps them, so that no number is given twice
    closed: set[int] = set()
    undo = [
        _wrapped(cls, name, note)
        for cls in _env_classes()
        for name, note in (
            ("__init__", lambda env: made.setdefault(id(env), env)),
            ("close", lambda env: closed.add(id(env))),
        )
        if name in vars(cls)
    ]
    left: list[str] = []
    try:
        yield left
    finally:
        for put_back in undo:
            put_back()
    left += [type(env).__name__ for number, env in made.items() if number not in closed]


def _env_classes() -> set[type]:
    """Return the classes of environments that are no wrappers of others."""
    gymnasium = sys.modules.get("gymnasium")
    if gymnasium is None:
        return set()
    found: set[type] = set()
    todo: list[type] = [gymnasium.Env, gymnasium.vector.VectorEnv]
    wrappers = (gymnasium.Wrapper, gymnasium.vector.VectorWrapper)
    while todo:
        cls = todo.pop()
        if cls not in found and not issubclass(cls, wrappers):
            found.add(cls)
            todo += cls.__subclasses__()
    return found


def _wrapped(cls: type, name: str, note: Callable[[Any], object]) -> Callable[[], None]:
    """Have calls of a method noted, and return what puts the method back."""
    method = vars(cls)[name]

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        note(self)
        return method(self, *args, **kwargs)

    setattr(cls, name, call)
    return lambda: setattr(cls, name, method)
