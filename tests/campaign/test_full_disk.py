"""A real disk of a few megabytes that fills up, and a limit on the size of files."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from forked_runs import Ended, fork, run
from run_comparison import DIRECTORY, read

from simscaleai_core.checkpoint.manifest import list_checkpoints

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.usefixtures("warm")]

TRAIN = (
    *("train", "--model", "bc", "--loggers", "jsonl", "--device", "cpu", "--log-every", 5),
    *("--eval-every", 0, "--warmup-steps", 2, "--keep-last", 10, "--save-every", 10),
)
"""Its checkpoints have 1.7 MB."""
COPY = "copy"

_NEW_MOUNTS, _PRIVATE, _RECURSIVE = 0x20000, 1 << 18, 1 << 14


def _on_a_disk(megabytes: int, *, full: bool) -> Callable[[int], None]:
    """Put the checkpoints on a disk that only the child sees; copy what is left on it at the end."""

    def prepare(rank: int) -> None:
        Path(DIRECTORY).mkdir()
        _mount(DIRECTORY, megabytes)
        if full:
            with Path(DIRECTORY, "ballast").open("wb", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(4096))
        leave = os._exit

        def copy_and_leave(status: int) -> None:
            Path(DIRECTORY, "ballast").unlink(missing_ok=True)
            shutil.copytree(DIRECTORY, Path(COPY, DIRECTORY))
            leave(status)

        os._exit = copy_and_leave  # type: ignore[assignment]

    return prepare


def _mount(folder: str, megabytes: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    size = f"size={megabytes}m".encode()
    calls = (
        (libc.unshare, _NEW_MOUNTS),
        (libc.mount, b"none", b"/", None, _PRIVATE | _RECURSIVE, None),
        (libc.mount, b"tmpfs", folder.encode(), b"tmpfs", 0, size),
    )
    for function, *arguments in calls:
        if function(*arguments):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@pytest.fixture
def mountable(tmp_path: Path) -> None:
    """Skip the test where a process cannot have a disk of its own."""
    (tmp_path / "disk").mkdir()

    def attempt() -> int:
        _mount(str(tmp_path / "disk"), 1)
        return 0

    pid = fork(attempt, tmp_path / "attempt.txt")
    if os.waitpid(pid, 0)[1]:
        reason = (tmp_path / "attempt.txt").read_text().splitlines()[-1]
        pytest.skip(f"no disk of its own for this test: {reason}")


def _run(folder: Path, *arguments: object, prepare: Callable[[int], None] | None = None) -> Ended:
    (ended,) = run(folder, *TRAIN, *arguments, prepare=prepare)
    assert "Traceback" not in ended.output, ended.output
    return ended


@pytest.mark.usefixtures("mountable")
def test_a_disk_that_fills_up_is_named_and_the_earlier_checkpoints_stay(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    ended = _run(folder, "--max-steps", 65, prepare=_on_a_disk(6, full=False))
    assert ended.status == 4, ended.output
    reason = f"could not write {DIRECTORY}/best.pt: No space left on device."  # it comes first
    assert reason in ended.output.splitlines()[-1]
    assert "Earlier checkpoints are untouched" in ended.output
    assert "Training goes on; the next save tries again." in ended.output
    _assert_whole(folder / COPY, {"step_10.pt", "step_20.pt", "step_30.pt"})


@pytest.mark.usefixtures("mountable")
def test_a_disk_that_is_full_before_the_first_step_ends_the_run_at_once(tmp_path: Path) -> None:
    ended = _run(tmp_path / "run", "--max-steps", 65, prepare=_on_a_disk(1, full=True))
    assert ended.status == 4, ended.output
    last = ended.output.splitlines()[-1]
    assert last.startswith("error: ") and "No space left on device" in last, ended.output
    assert DIRECTORY in last
    assert "training from step 0" not in ended.output


def test_a_file_size_limit_is_named_and_the_run_can_be_continued(tmp_path: Path) -> None:
    def limit(rank: int) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))

    folder = tmp_path / "run"
    directory = folder / DIRECTORY
    ended = _run(folder, "--max-steps", 45, prepare=limit)
    assert ended.status == 4, ended.output
    assert f"could not write {DIRECTORY}/best.pt: File too large." in ended.output
    assert sorted(p.name for p in directory.iterdir()) == ["metrics.jsonl"]

    ended = _run(folder, "--max-steps", 45)
    assert ended.status == 0, ended.output
    kept = {p.name: p.read_bytes() for p in directory.iterdir()}
    longer = ("--max-steps", 55, "--allow-drift", "--resume", "auto")
    ended = _run(folder, *longer, prepare=limit)
    assert ended.status == 4, ended.output
    assert "File too large" in ended.output
    now = {p.name: p.read_bytes() for p in directory.iterdir()}
    assert now.pop("metrics.jsonl").startswith(kept.pop("metrics.jsonl"))
    assert now == kept
    _assert_whole(folder, {f"step_{n}.pt" for n in (10, 20, 30, 40)} | {"best.pt", "final.pt"})


def _assert_whole(folder: Path, names: set[str]) -> None:
    directory = folder / DIRECTORY
    assert {info.file for info in list_checkpoints(directory)} == names
    assert {p.name for p in directory.iterdir() if p.suffix == ".pt"} == names
    for name in names:
        tree = read(directory / name)
        assert name in {f"step_{tree['step']}.pt", "best.pt", "final.pt"}
    assert not [p.name for p in directory.iterdir() if p.name.startswith(".")]
