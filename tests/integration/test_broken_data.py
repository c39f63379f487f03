"""Whatever is wrong with a file of demonstrations, the user reads one line that says so."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

Command = Callable[..., tuple[int, str, str]]
CASES: list[Any] = []


def broken(fault: str, *marks: pytest.MarkDecorator) -> Any:
    """Register a way to break a sound file, and words of what must be said about it."""

    def register(break_: Callable[[Path], None]) -> Callable[[Path], None]:
        CASES.append(pytest.param(break_, fault, id=break_.__name__, marks=marks))
        return break_

    return register


@broken("got no such file")
def missing(path: Path) -> None:
    path.unlink()


@broken("got an empty file")
def empty(path: Path) -> None:
    path.write_bytes(b"")


@broken("got another kind of file")
def text(path: Path) -> None:
    path.write_text("these are not the bytes that you are looking for\n" * 20)


@broken("got a truncated file")
def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@broken("no episodes in the file")
def no_episodes(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["notes"] = 1.0


@broken("field 'actions' of episode_1")
def no_actions(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["episode_1/actions"]


@broken("field 'joint_pos' of episode_1: expected finite float32 numbers, got nan")
def not_a_number(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["episode_1/observations/joint_pos"][2, 3] = np.nan


@broken("field 'actions' of episode_1: expected [T, 4] as in episode_0, got [T, 7]")
def other_width(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["episode_1/actions"]
        file["episode_1/actions"] = np.zeros((6, 7))


@broken("field 'joint_pos' of episode_1: expected 6 timesteps")
def ragged(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["episode_1/observations/joint_pos"]
        file["episode_1/observations/joint_pos"] = np.zeros((4, 7))


@broken("field 'joint_pos' of episode_1: expected real numbers, got text")
def words(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["episode_1/observations/joint_pos"]
        file["episode_1/observations/joint_pos"] = ["left", "right"] * 3


@broken("expected at most 64 MiB and 250 times the")
def declared_size(path: Path) -> None:
    """Some KB that declare just under 4 GiB."""
    with h5py.File(path, "a") as file:
        for name, width in (("observations/joint_pos", 7), ("actions", 4)):
            del file[f"episode_1/{name}"]
            shape, chunks = (2**32 // 88 - 1, width), (1024, width)
            file.create_dataset(f"episode_1/{name}", shape, "f8", chunks=chunks)


@broken("field 'actions' of episode_1: expected 192 bytes in every chunk")
def chunk_of_another_size(path: Path) -> None:
    """A chunk from which HDF5 would copy what lies behind it in memory."""
    with h5py.File(path, "a") as file:
        del file["episode_1/actions"]
        made = file.create_dataset(
            "episode_1/actions", (6, 4), "f8", chunks=(6, 4), compression="gzip"
        )
        made.id.write_direct_chunk((0, 0), zlib.compress(bytes(8)))


@broken("expected readable data, got no progress", pytest.mark.slow)
def text_without_end(path: Path) -> None:
    """HDF5 looks for the end of the texts for ever."""
    with h5py.File(path, "a") as file:
        file.attrs["env_name"] = "reach"
    raw = bytearray(path.read_bytes())
    heap = raw.index(b"GCOL")
    raw[heap + 16 : heap + 32] = bytes(16)
    path.write_bytes(raw)


@broken("an external link")
def link_outside(path: Path) -> None:
    """The link's target is a pipe: to open it would block until the test's time limit."""
    os.mkfifo(path.with_name("outside.h5"))
    with h5py.File(path, "a") as file:
        del file["episode_1/actions"]
        file["episode_1/actions"] = h5py.ExternalLink("outside.h5", "/actions")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Four equal episodes with which nothing is wrong."""
    path = tmp_path / "demonstrations.h5"
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as made:
        for number in range(4):
            group = made.create_group(f"episode_{number}")
            group["observations/joint_pos"] = rng.normal(size=(6, 7))
            group["actions"] = rng.uniform(-1, 1, size=(6, 4))
    return path


def arguments(file: Path) -> tuple[object, ...]:
    folder = file.parent / "checkpoints"
    steps = ("--max-steps", 2, "--warmup-steps", 1)
    return ("train", "--dataset", file, "--checkpoint-dir", folder, *steps)


def assert_refused(status: int, out: str, err: str, *, file: Path, fault: str) -> None:
    assert (status, out) == (2, "")
    lines = err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert fault in lines[0]
    assert str(file) in lines[0]
    assert "Traceback" not in err
    assert not (file.parent / "checkpoints").exists()


def test_sound_file_is_trained_on(file: Path, simscale_here: Command) -> None:
    status, _, err = simscale_here(*arguments(file))
    assert status == 0, err
    assert (file.parent / "checkpoints" / "final.pt").is_file()


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("break_", "fault"), CASES)
def test_fault_is_named_in_one_line(
    file: Path, simscale_here: Command, break_: Callable[[Path], None], fault: str
) -> None:
    break_(file)
    assert_refused(*simscale_here(*arguments(file)), file=file, fault=fault)


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("break_", "fault"), [c for c in CASES if c.id in {"truncated", "not_a_number"}]
)
def test_fault_is_named_by_the_real_program(
    file: Path, here: Any, break_: Callable[[Path], None], fault: str
) -> None:
    break_(file)
    done = here.simscale(*arguments(file), cwd=file.parent, status=2)
    assert_refused(done.returncode, done.stdout, done.stderr, file=file, fault=fault)


def test_resume_from_a_broken_checkpoint(file: Path, simscale_here: Command) -> None:
    """The same promise for the other file that a user brings."""
    assert simscale_here(*arguments(file))[0] == 0
    final = file.parent / "checkpoints" / "final.pt"
    final.write_bytes(final.read_bytes()[:-100])
    status, _, err = simscale_here(*arguments(file), "--resume", final)
    last = err.splitlines()[-1]
    assert status == 2
    assert last.startswith("error: ") and "final.pt is damaged: expected" in last
    assert "Traceback" not in err


def test_nothing_reads_this_suffix(tmp_path: Path, simscale_here: Command) -> None:
    file = tmp_path / "demonstrations.csv"
    file.write_text("1,2,3\n")
    outcome = simscale_here(*arguments(file))
    assert_refused(*outcome, file=file, fault="or a file ending in .h5")
