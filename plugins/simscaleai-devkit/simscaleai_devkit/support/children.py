"""Running a function in a forked child: imports, crashes and limits must not reach the tests.

Only where the system can fork.
"""

from __future__ import annotations

import json
import os
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from simscaleai_devkit.checks import NotApplicable

CRASHED = 9
"""Exit status of a child that `crash_after` ended."""


def in_child(function: Callable[[], Any]) -> tuple[int, Any]:
    """Run a function in a forked child.

    Args:
        function: Returns something that JSON can hold.

    Returns:
        The exit status, and what the function returned; ``{"error": text}`` if it raised.

    Raises:
        NotApplicable: If this system cannot fork.
    """
    if not hasattr(os, "fork"):
        raise NotApplicable("this system cannot fork a process")
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # threads of libraries that are idle here
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reading)
            payload = _payload(function)
            with os.fdopen(writing, "w", encoding="utf-8") as pipe:
                pipe.write(payload)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        text = pipe.read()
    _, code = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(code), json.loads(text) if text else None


def _payload(function: Callable[[], Any]) -> str:
    try:
        return json.dumps(function(), default=str)
    except BaseException as error:  # noqa: BLE001 - the parent judges it
        text = f"{type(error).__name__}: {error}"
        return json.dumps({"error": text, "traceback": traceback.format_exc()})


def crash_after(count: int) -> None:
    """End this process, as a power cut would, at the next file operation after `count` of them.

    Openings for writing, renames and removals count. Call it in a child only.

    Args:
        count: File operations that still succeed.
    """
    import builtins
    import io

    left = iter(range(count))
    for name in ("open", "replace", "rename", "mkdir", "unlink", "rmdir", "remove"):
        setattr(os, name, _counted(getattr(os, name), left))
    opened = _counted_open(io.open, left)
    io.open = opened
    builtins.open = opened


def _counted(function: Callable[..., Any], left: Iterator[int]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        if next(left, None) is None:
            os._exit(CRASHED)
        return function(*args, **kwargs)

    return call


def _counted_open(function: Callable[..., Any], left: Iterator[int]) -> Callable[..., Any]:
    counted = _counted(function, left)

    def call(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        is_writing = any(letter in mode for letter in "wax+")
        return (counted if is_writing else function)(file, mode, *args, **kwargs)

    return call
