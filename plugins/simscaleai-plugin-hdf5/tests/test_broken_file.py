"""Every file that is no whole, finished HDF5 file is refused with one line that says why."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
from simscaleai_plugin_hdf5.dataset import TrajectoryDataset

from simscaleai_core.errors import DataError

Edit = Callable[[h5py.File], None]
Refusal = Callable[[], DataError]
DAMAGED: list[Any] = []


def damage(message: str) -> Any:
    """Register an edit of a file's bytes, and what must be said about it."""

    def register(edit: Callable[[Path], None]) -> Callable[[Path], None]:
        DAMAGED.append(pytest.param(edit, message, id=edit.__name__))
        return edit

    return register


@damage("the file: expected an HDF5 file, got no such file")
def missing(path: Path) -> None:
    path.unlink()


@damage("expected a folder of HDF5 files, or of a Minari data set, got one without any")
def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@damage("expected an HDF5 file, got something that is not a plain file")
def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@damage("expected an HDF5 file, got an empty file")
def empty(path: Path) -> None:
    path.write_bytes(b"")


@damage("expected an HDF5 file, got another kind of file")
def not_hdf5(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04" * 100)


@damage("expected a whole HDF5 file, got a truncated file")
def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@damage("expected a sound HDF5 file, got damage")
def superblock(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[8] = 77
    path.write_bytes(raw)


@damage("expected readable data, got damage")
def object_headers(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    path.write_bytes(raw.replace(b"TREE", b"TREF"))


@pytest.mark.timeout(60, method="thread")
@pytest.mark.parametrize(("edit", "message"), DAMAGED)
def test_damaged_file(
    sound_file: Path, refusal: Refusal, edit: Callable[[Path], None], message: str
) -> None:
    edit(sound_file)
    assert message in str(refusal())


WRITER = """
import sys, time, h5py
file = h5py.File(sys.argv[1], "w", libver="latest")
file["x"] = 1.0
file.flush()
if sys.argv[2] == "swmr":
    file.swmr_mode = True
print("ready", flush=True)
time.sleep(60)
"""


def test_file_that_is_being_written(sound_file: Path, refusal: Refusal) -> None:
    with start_writer(sound_file, "plain") as writer:
        assert "one being written by another process" in str(refusal())
        writer.kill()


def test_file_whose_writer_died(sound_file: Path, refusal: Refusal) -> None:
    with start_writer(sound_file, "swmr") as writer:
        writer.send_signal(signal.SIGKILL)
    assert "if the writer died, run 'h5clear -s' on the file" in str(refusal())


def start_writer(path: Path, mode: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), mode]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
    return writer


def test_unknown_key_has_a_suggestion(sound_file: Path) -> None:
    message = (
        "unknown observation key 'joint_poss': expected a key of the file, "
        "got 'ee_pos', 'image', 'joint_pos' @ .* Did you mean 'joint_pos'"
    )
    with pytest.raises(DataError, match=message):
        TrajectoryDataset(sound_file, obs_keys=["joint_poss"])


def test_odd_episode_names_are_ignored_with_a_warning(sound_file: Path) -> None:
    with h5py.File(sound_file, "a") as file:
        file["episode_x"] = file["notes"] = 1.0
    with pytest.warns(UserWarning, match="1 top-level entries are not episodes .* 'episode_x'"):
        assert len(TrajectoryDataset(sound_file).episodes) == 4


def test_no_filter_library_is_looked_for(sound_file: Path) -> None:
    h5py.h5pl.append(str(sound_file.parent).encode())
    TrajectoryDataset(sound_file)
    assert h5py.h5pl.size() == 0
