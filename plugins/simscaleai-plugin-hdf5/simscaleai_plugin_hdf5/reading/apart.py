"""Look at a file in a process of its own, which may crash or hang without harm.

The HDF5 library follows what a file says, and a damaged one can crash it or make it loop for ever
(measured with HDF5 2.0: 5 of 1,500 files with damaged metadata). Structure and texts are
therefore read in a forked child; numbers and images are read here, from chunks of known size.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simscaleai_core.data.location import Location
from simscaleai_core.errors import DataError

LIMIT_S = 2.0
"""Computing time after which a child that has made no progress ends [s]; a slow disk costs none."""

_REMEDY = "Copy the file again from its source, or record it anew"
_MAY_FORK = sys.platform == "linux"  # elsewhere a forked process may not use every library
_child = False


def still_alive() -> None:
    """Start the time limit anew; does nothing outside of a child."""
    if _child:
        signal.setitimer(signal.ITIMER_PROF, LIMIT_S)


def apart(work: Callable[[], Any], location: Location) -> Any:
    """Call a function in a child and return what it returns.

    Args:
        work: What to do; it returns what JSON can hold, and calls `still_alive` on its way.
        location: The file that it reads, for messages.

    Returns:
        What `work` returned, as JSON gives it back.

    Raises:
        DataError: As `work` raised it, or because the child crashed or made no progress.
    """
    forked = _fork() if _MAY_FORK else None
    if forked is None:
        return json.loads(json.dumps(work()))
    pid, source, sink = forked
    if pid == 0:
        _work_and_exit(work, sink)
    os.close(sink)
    try:
        with os.fdopen(source, "rb") as pipe:
            answer = pipe.read()
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status < 0:
        found = _death(-status)
        raise location.error("readable data", found, _REMEDY)
    if status > 0:  # a fault of ours: let it happen here, where it can be seen
        return json.loads(json.dumps(work()))
    return _value(json.loads(answer), location)


def _value(answer: dict[str, Any], location: Location) -> Any:
    for text in answer["warnings"]:
        warnings.warn(text, stacklevel=5)
    if "error" in answer:
        at = answer["at"]
        path = Path(at["path"]) if at["path"] else location.path
        raise DataError(answer["error"], path=path, episode=at["episode"], key=at["key"])
    return answer["value"]


def _death(number: int) -> str:
    if number == signal.SIGPROF:
        return f"no progress in {LIMIT_S:g} s of computing"
    return f"a crash of the HDF5 library ({signal.Signals(number).name})"


def _fork() -> tuple[int, int, int] | None:
    source, sink = os.pipe()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the child uses no other thread
            return os.fork(), source, sink
    except OSError:  # no memory for a second process: do without
        os.close(source)
        os.close(sink)
        return None


def _work_and_exit(work: Callable[[], Any], sink: int) -> None:
    global _child  # noqa: PLW0603 - a property of this process
    status = 1
    try:
        faulthandler.disable()  # the parent tells of a crash
        gc.disable()  # what the parent has made is the parent's to finish
        _child = True
        for number in (signal.SIGPROF, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        still_alive()
        answer = json.dumps(_answer(work)).encode()
        signal.setitimer(signal.ITIMER_PROF, 0)
        with os.fdopen(sink, "wb") as pipe:
            pipe.write(answer)
        status = 0
    finally:
        os._exit(status)


def _answer(work: Callable[[], Any]) -> dict[str, Any]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            answer: dict[str, Any] = {"value": work()}
        except DataError as error:
            path = None if error.path is None else str(error.path)
            at = {"path": path, "episode": error.episode, "key": error.key}
            answer = {"error": str(error), "at": at}
    return {**answer, "warnings": [str(warning.message) for warning in caught]}
