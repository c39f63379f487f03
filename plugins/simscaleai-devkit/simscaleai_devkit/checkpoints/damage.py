"""Checks of checkpoint backends against damage: cut files, foreign code, crashes, full disks."""

from __future__ import annotations

import contextlib
import pickle
from pathlib import Path
from typing import Any

import torch

from simscaleai_core.checkpoint.store import CheckpointStore, read_checkpoint
from simscaleai_core.contracts import StateDict
from simscaleai_core.errors import CheckpointError
from simscaleai_devkit.checkpoints.driver import files_of, saved, store_in, suffix_of
from simscaleai_devkit.checks import CheckFailed, checks_in, expect, expect_none
from simscaleai_devkit.subject import Subject
from simscaleai_devkit.support.children import CRASHED, crash_after, in_child

_MAX_OPERATIONS = 400
_EXECUTED: list[str] = []


def check_cut_file_is_refused(subject: Subject) -> None:
    """A file that was cut anywhere is refused, also without a manifest beside it."""
    path = saved(subject, {"step": 3, "w": torch.arange(64.0)})
    backend = subject.build()
    for file in files_of(path):
        data = file.read_bytes()
        for fraction in (0.0, 0.3, 0.7, 0.97) if data else ():
            file.write_bytes(data[: int(len(data) * fraction)])
            try:
                read_checkpoint(path, backend)
            except CheckpointError:
                continue
            raise CheckFailed(
                f"a checkpoint of which {file.name} was cut to {int(fraction * 100)} %: expected "
                "an error, got a tree. Raise if the file ends too early."
            )
        file.write_bytes(data)


def check_foreign_file_is_refused(subject: Subject) -> None:
    """Something else of that name is refused with an error that names the file."""
    backend = subject.build()
    path = subject.folder / f"final{suffix_of(backend)}"
    for content in (b"", b"hello\n" * 9, b"\x89PNG\r\n\x1a\n" + bytes(50), bytes(64)):
        path.write_bytes(content)
        try:
            read_checkpoint(path, backend)
        except CheckpointError:
            continue
        raise CheckFailed(
            f"a file of {len(content)} foreign bytes: expected an error, got a tree. Check the "
            "format before reading."
        )


def check_nothing_is_executed(subject: Subject) -> None:
    """A pickle instead of a checkpoint, or of one of its files, is not executed."""
    path = saved(subject, {"step": 3, "w": torch.ones(4)})
    backend = subject.build()
    for file in files_of(path):
        data = file.read_bytes()
        for write in (_write_torch, _write_pickle):
            write(file)
            _EXECUTED.clear()
            with contextlib.suppress(Exception):  # refusing is right, whatever the error
                backend.load(path)
            expect(
                not _EXECUTED,
                f"code in {file.name} was executed while it was loaded",
                expected="data only",
                found="an unpickled call",
                remedy="Load with weights_only=True, or a format that holds no code.",
            )
            file.write_bytes(data)


def check_crash_loses_nothing(subject: Subject) -> None:
    """Killed at any file operation of a save, the earlier checkpoint is still there and whole."""
    backend = subject.build()
    steps = set()
    for count in range(_MAX_OPERATIONS):
        folder = subject.folder / f"crash{count}"
        _save_step(folder, backend, 2)
        status, report = in_child(lambda f=folder, n=count: _crash(f, backend, n))  # type: ignore[misc]
        if report and "error" in report:
            raise CheckFailed(
                f"saving over an earlier checkpoint: expected to work, got {report['error']}. "
                "See the check 'round_trip_is_exact'."
            )
        steps.add(_step_after(folder, backend, count))
        if status != CRASHED:
            break
    expect(
        {2, 3} <= steps,
        "a save that is killed at every file operation in turn",
        expected="the old checkpoint first and the new one in the end",
        found=f"steps {sorted(steps)}",
        remedy="Write only to the path that `save` is given.",
    )


def _step_after(folder: Path, backend: Any, count: int) -> int:
    try:
        found = CheckpointStore(folder, backend).load("auto")
        tree: StateDict = found[1] if found else {"step": None, "w": torch.empty(0)}
    except CheckpointError as error:
        raise CheckFailed(
            f"killed at file operation {count} of a save: expected the earlier checkpoint, got "
            f"{error} Write only to the path that `save` is given."
        ) from error
    expect(
        tree["step"] and torch.equal(tree["w"], torch.full((300,), float(tree["step"]))),
        f"killed at file operation {count} of a save",
        expected="a whole checkpoint",
        found=f"step {tree['step']} with other contents",
        remedy="Write only to the path that `save` is given.",
    )
    return int(tree["step"])


def check_full_disk_is_reported(subject: Subject) -> None:
    """When the disk is full, saving raises, of whatever kind; nothing is left behind."""
    backend = subject.build()
    folder = subject.folder / "full"
    status, report = in_child(lambda: _save_beyond_the_limit(folder, backend))
    report = report or f"a process that ended with status {status}"
    expect(
        report == "refused",
        "saving more than the disk takes",
        expected="an error, best the system's own OSError",
        found=report["error"] if isinstance(report, dict) else report,
        remedy="Let the error through, and finish writing before `save` returns.",
    )
    left = sorted(p.name for p in folder.iterdir() if not p.name.startswith(".lock"))
    remedy = "Write only to the path that `save` is given."
    expect_none(left, "what a failed save left", expected="an empty folder", remedy=remedy)


def _save_step(folder: Path, backend: Any, step: int) -> None:
    tree = {"step": step, "w": torch.full((300,), float(step))}
    store_in(folder, backend).save("best", tree, step=step)


def _crash(folder: Path, backend: Any, count: int) -> None:
    crash_after(count)
    _save_step(folder, backend, 3)


def _save_beyond_the_limit(folder: Path, backend: Any) -> str:
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = store_in(folder, backend)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        big = torch.rand(100_000)  # zeros would be nothing to a backend that compresses
        store.save("step_3", {"big": big}, step=3)
    except Exception:  # noqa: BLE001 - torch says it with a RuntimeError
        return "refused"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    return "no error"


class _Payload:
    """Appends to a list when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (_execute, ("now",))


def _execute(text: str) -> str:
    _EXECUTED.append(text)
    return text


def _write_torch(path: Path) -> None:
    with path.open("wb") as file:  # through a file: torch refuses some names
        torch.save({"step": _Payload()}, file)


def _write_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"step": _Payload()}))


DAMAGE_CHECKS = checks_in(globals())
"""The checks of this module."""
