"""Commands in forked children of this process, where torch is imported already.

A child is a real process: it has a folder, an output and an exit status of its own, and can be
killed. An import of torch takes seconds, a fork milliseconds.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from attrs import define, frozen

from simscaleai_core.checkpoint.store import CheckpointStore

ACKNOWLEDGED = "acknowledged.txt"
KILLED = -signal.SIGKILL
HANG_S = 60.0
"""Longer than any run here takes on a busy machine [s]."""

Prepare = Callable[[int], None]


@frozen(kw_only=True)
class Ended:
    """How a process ended."""

    status: int
    """Exit status; the negative number of the signal that killed it."""
    output: str
    """Standard output and standard error."""


@define
class Running:
    """The ranks of one run."""

    folder: Path
    pids: list[int]

    def kill(self, *ranks: int) -> None:
        """Send SIGKILL to these ranks, or to all."""
        for rank in ranks or range(len(self.pids)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pids[rank], signal.SIGKILL)

    def terminate(self) -> None:
        """Send SIGTERM to all ranks, as torchrun does when it sees that one has died."""
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def ended(self, *, within_s: float = HANG_S) -> list[Ended]:
        """Wait for every rank; one that does not end in time is killed and fails the test."""
        waiting, found = dict(enumerate(self.pids)), {}
        deadline = time.monotonic() + within_s
        while waiting:
            for rank, pid in [*waiting.items()]:
                done, code = os.waitpid(pid, os.WNOHANG)
                if done:
                    del waiting[rank]
                    found[rank] = os.waitstatus_to_exitcode(code)
            if waiting and time.monotonic() > deadline:
                self._give_up(waiting)
            time.sleep(0.002)
        return [
            Ended(status=found[rank], output=output_path(self.folder, rank).read_text())
            for rank in sorted(found)
        ]

    def _give_up(self, waiting: dict[int, int]) -> None:
        for pid in waiting.values():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        shown = "\n".join(output_path(self.folder, rank).read_text() for rank in waiting)
        raise AssertionError(f"hangs: rank {', '.join(map(str, waiting))} of a run\n{shown}")


def assert_nothing_left(pids: Sequence[int], *, within_s: float = 10.0) -> None:
    """Fail if a process that these processes started, such as a loader worker, outlives them."""
    deadline = time.monotonic() + within_s
    while left := [number for pid in pids for number in _members(pid)]:
        if time.monotonic() > deadline:
            for number in left:
                os.kill(number, signal.SIGKILL)
            raise AssertionError(f"{len(left)} processes still run after {within_s} s")
        time.sleep(0.05)


def _members(group: int) -> list[int]:
    """Return the living processes of a process group."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return []
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                found.append(int(path.parent.name))
    return found


def output_path(folder: Path, rank: int = 0) -> Path:
    """Return where the output of a rank's last command is."""
    return folder.with_name(f"{folder.name}.output-{rank}.txt")


def start(
    folder: Path, *arguments: object, ranks: int = 1, prepare: Prepare | None = None
) -> Running:
    """Start ``simscale`` with these arguments in a folder, on one rank or several.

    `prepare` is called with the rank in each process before the command.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokens = [str(argument) for argument in arguments]
    port = _free_port() if ranks > 1 else 0
    calls = [
        lambda rank=rank: _command(folder, tokens, rank, ranks, port, prepare)
        for rank in range(ranks)
    ]
    for rank in range(ranks):
        output_path(folder, rank).write_text("")
    return Running(folder, [fork(call, output_path(folder, r)) for r, call in enumerate(calls)])


def run(
    folder: Path,
    *arguments: object,
    ranks: int = 1,
    prepare: Prepare | None = None,
    within_s: float = HANG_S,
) -> list[Ended]:
    """Run ``simscale`` with these arguments to its end."""
    return start(folder, *arguments, ranks=ranks, prepare=prepare).ended(within_s=within_s)


def finish(folder: Path, *arguments: object, ranks: int = 1) -> str:
    """Run ``simscale`` with these arguments; return the output of rank 0 if all went well."""
    ended = run(folder, *arguments, ranks=ranks)
    for one in ended:
        assert one.status == 0, f"status {one.status}: {' '.join(map(str, arguments))}\n" + (
            "\n".join(e.output for e in ended)
        )
    return ended[0].output


def acknowledged(folder: Path) -> list[tuple[str, int]]:
    """Return file and step of each checkpoint that the runs in a folder reported as saved."""
    path = folder / ACKNOWLEDGED
    lines = path.read_text().splitlines() if path.exists() else []
    return [(file, int(step)) for file, step in map(str.split, lines)]


def fork(call: Callable[[], int], output: Path) -> int:
    """Run a function in a child that ends with the status that it returns; return its number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons mistrust threads
        pid = os.fork()
    if pid == 0:
        _run_and_exit(call, output)
    return pid


def _run_and_exit(call: Callable[[], int], output: Path) -> None:
    status = 1
    try:
        os.setpgid(0, 0)
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout, sys.stderr = (os.fdopen(n, "w", closefd=False) for n in (1, 2))
        _as_a_new_python()
        status = call()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _as_a_new_python() -> None:
    """Undo what pytest and the shell have set."""
    warnings.resetwarnings()
    for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", category)
    for name in [name for name in os.environ if name.startswith(("SIMSCALE_", "PYTEST_"))]:
        del os.environ[name]
    torch.set_num_threads(1)


def _command(
    folder: Path, tokens: list[str], rank: int, ranks: int, port: int, prepare: Prepare | None
) -> int:
    from simscaleai_core.cli.app import run as run_command

    os.chdir(folder)
    if ranks > 1:
        os.environ |= {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo",
        }  # fmt: skip
    _acknowledge_saves(folder / ACKNOWLEDGED)
    if prepare is not None:
        prepare(rank)
    return run_command(tokens)


def _acknowledge_saves(path: Path) -> None:
    """Write down each save as soon as the store says that it is durable."""
    save = CheckpointStore.save
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def acknowledging(self: CheckpointStore, *args: Any, **kwargs: Any) -> Any:
        info = save(self, *args, **kwargs)
        os.write(file, f"{info.file} {info.step}\n".encode())
        return info

    CheckpointStore.save = acknowledging  # type: ignore[method-assign]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@contextlib.contextmanager
def warm(commands: Sequence[tuple[int, Sequence[object]]], folder: Path) -> Iterator[None]:
    """Import here, once, what children import for commands of which each is run on some ranks."""
    for number, (ranks, arguments) in enumerate(commands):
        place = folder / f"warm-{number}"
        ended = start(place, *arguments, ranks=ranks, prepare=_list_modules_at_exit).ended()
        assert all(one.status == 0 for one in ended), [one.output for one in ended]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name in (place / "modules.txt").read_text().split():
                if name not in sys.modules:
                    with contextlib.suppress(Exception):
                        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # each child collects too: over its own objects only, and copies no pages
    try:
        yield
    finally:
        gc.unfreeze()


def _list_modules_at_exit(rank: int) -> None:
    if rank:
        return
    leave, path = os._exit, Path.cwd() / "modules.txt"

    def leave_a_list(status: int) -> None:
        path.write_text("\n".join(sys.modules))
        leave(status)

    os._exit = leave_a_list  # type: ignore[assignment]
