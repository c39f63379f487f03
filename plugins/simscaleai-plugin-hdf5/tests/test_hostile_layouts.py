"""What holds of our own layout holds of the others: nothing outside is opened, nothing explodes."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from simscaleai_plugin_hdf5.detect import reads
from simscaleai_plugin_hdf5.reading import apart
from simscaleai_plugin_hdf5.source import HDF5Source

from simscaleai_core.errors import DataError

DATA = Path(__file__).resolve().parent / "data"
SAMPLES = {
    "robomimic": DATA / "robomimic/tiny_image.hdf5",
    "aloha": DATA / "aloha/real/episode_0.hdf5",
    "minari": DATA / "minari/tiny/data/main_data.hdf5",
    "d4rl": DATA / "d4rl/halfcheetah_tiny.hdf5",
}
LIMIT = r"at most 64 MiB and 250 times the \d+ bytes of the file"
QUICK = {"data/demo_1/obs", "mask/train", "action", "episode_1/infos", "timeouts"}
pytestmark = [
    pytest.mark.timeout(60, method="thread"),
    pytest.mark.filterwarnings("ignore:the last 5 of 12 timesteps"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which what hostile files name is a pipe: who opens it waits for ever."""
    os.mkfifo(tmp_path / "trap")
    return tmp_path


def look(path: Path) -> HDF5Source:
    source = HDF5Source(path)
    assert source.episodes
    return source


STEPS = [
    ("robomimic", "data"), ("robomimic", "data/demo_1"), ("robomimic", "data/demo_1/obs"),
    ("robomimic", "data/demo_1/obs/agentview_image"), ("robomimic", "data/demo_1/actions"),
    ("robomimic", "data/demo_1/rewards"), ("robomimic", "mask"), ("robomimic", "mask/train"),
    ("aloha", "observations"), ("aloha", "observations/images"), ("aloha", "action"),
    ("aloha", "observations/images/top"), ("minari", "episode_0"),
    ("minari", "episode_1/observations/state"), ("minari", "episode_1/observations/mission"),
    ("minari", "episode_1/infos"), ("minari", "episode_1/infos/success"),
    ("d4rl", "terminals"), ("d4rl", "timeouts"), ("d4rl", "observations"), ("d4rl", "rewards"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("layout", "step"),
    [s if s[1] in QUICK else pytest.param(*s, marks=pytest.mark.slow) for s in STEPS],
)
def test_no_link_is_followed(folder: Path, layout: str, step: str) -> None:
    path = shutil.copy(SAMPLES[layout], folder / "file.hdf5")
    with h5py.File(path, "a") as file:
        del file[step]
        file[step] = h5py.ExternalLink("trap", "/x")
    reads(path)
    with pytest.raises(DataError, match="expected data inside the file, got an external link"):
        look(path)


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ("robomimic", "data/demo_1/next_obs"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("robomimic", "elsewhere"),
                ("aloha", "compress_len"),
                ("minari", "episode_1/infos/more"),
                ("d4rl", "infos"),
            )
        ),
    ],
)
def test_what_nobody_reads_does_no_harm(folder: Path, layout: str, name: str) -> None:
    path = shutil.copy(SAMPLES[layout], folder / "file.hdf5")
    with h5py.File(path, "a") as file:
        file.pop(name, None)
        file[name] = h5py.ExternalLink("trap", "/x")
    found, expected = look(path), look(SAMPLES[layout])
    assert found.episodes == expected.episodes or layout == "aloha"
    for key in expected.observations:
        first = [each.read(0, key.name, 0, 3) for each in (found, expected)]
        np.testing.assert_array_equal(*first)


@pytest.mark.parametrize(
    "layout", ["robomimic", pytest.param("aloha", marks=pytest.mark.slow), "d4rl"]
)
def test_more_is_declared_than_stored(folder: Path, layout: str) -> None:
    path = shutil.copy(SAMPLES[layout], folder / "file.hdf5")
    places = {
        "robomimic": ["data/demo_1/obs/robot0_eef_pos", "data/demo_1/actions"],
        "aloha": ["observations/qpos", "action"],
        "d4rl": ["terminals", "timeouts", "observations"],
    }
    with h5py.File(path, "a") as file:
        for name in places[layout]:
            old = file.pop(name)
            shape = (2**31, *old.shape[1:])
            file.create_dataset(name, shape, old.dtype, chunks=(1024, *old.shape[1:]))
    with pytest.raises(DataError, match=LIMIT):
        look(path)


def own_file(path: Path, fill: Callable[[h5py.Group], Any]) -> Path:
    with h5py.File(path, "w") as file:
        group = file.create_group("episode_0")
        group["observations/q"] = np.ones((5, 3))
        group["actions"] = np.ones((5, 2))
        fill(group)
    return path


def test_a_group_inside_itself(tmp_path: Path) -> None:
    def fill(group: h5py.Group) -> None:
        arm = group.create_group("observations/robot/arm")
        arm["again"] = group["observations/robot"]

    path = own_file(tmp_path / "a.h5", fill)
    with pytest.raises(DataError, match=r"expected at most 8 groups .*, got a group inside itself"):
        look(path)


@pytest.mark.slow
def test_groups_that_double_at_each_step(tmp_path: Path) -> None:
    """Eight steps with sixteen names each lead to four thousand million arrays."""

    def fill(group: h5py.Group) -> None:
        inner = group.create_group("level_0")
        inner["q"] = np.ones((5, 3))
        for level in range(1, 8):
            outer = group.create_group(f"level_{level}")
            for name in range(16):
                outer[f"n{name}"] = inner
            inner = outer
        group["observations/more"] = inner

    path = own_file(tmp_path / "a.h5", fill)
    with pytest.raises(DataError, match=LIMIT):
        look(path)


def frames_of(group: h5py.Group, blobs: list[bytes]) -> None:
    made = group.create_dataset("observations/cam", (5,), h5py.vlen_dtype(np.uint8))
    for number, blob in enumerate(blobs):
        made[number] = np.frombuffer(blob, np.uint8)


def png(size: int = 64) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def test_frames_on_which_hdf5_loops_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first frame is sound; what holds the last is met only when that is read."""
    monkeypatch.setattr(apart, "LIMIT_S", 0.3)
    path = own_file(tmp_path / "a.h5", lambda group: frames_of(group, [png()] * 5))
    source = look(path)
    raw = bytearray(path.read_bytes())
    heap = raw.rindex(b"GCOL")
    raw[heap + 16 : heap + 32] = bytes(16)
    stamp = path.stat()
    path.write_bytes(raw)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    with pytest.raises(DataError, match=r"'cam' of episode_0: .* got no progress in 0.3 s"):
        source.read(0, "cam", 4, 5)


@pytest.mark.slow
def test_one_frame_named_many_times(tmp_path: Path) -> None:
    steps, blob = 100_000, png().ljust(2**20, b"\0")

    def fill(group: h5py.Group) -> None:
        del group["actions"], group["observations/q"]
        group["actions"] = np.ones((steps, 1), np.float32)
        made = group.create_dataset("observations/cam", (steps,), h5py.vlen_dtype(np.uint8))
        made[0] = np.frombuffer(blob, np.uint8)
        group.file.flush()
        group.attrs["offset"] = made.id.get_offset()

    path = own_file(tmp_path / "a.h5", fill)
    with h5py.File(path) as file:
        offset = int(file["episode_0"].attrs["offset"])
    raw = bytearray(path.read_bytes())
    raw[offset : offset + 16 * steps] = bytes(raw[offset : offset + 16]) * steps
    path.write_bytes(raw)
    with pytest.raises(DataError, match=LIMIT):
        look(path).read(0, "cam", 0, 2)


@pytest.mark.slow
def test_frames_that_decode_to_more_than_is_stored(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("L", (9000, 9000)).save(buffer, format="PNG")
    path = own_file(tmp_path / "a.h5", lambda group: frames_of(group, [buffer.getvalue()] * 5))
    with pytest.raises(DataError, match=LIMIT):
        look(path)


def test_compressed_references_of_another_size(tmp_path: Path) -> None:
    def fill(group: h5py.Group) -> None:
        made = group.create_dataset(
            "observations/cam", (5,), h5py.vlen_dtype(np.uint8), chunks=(5,), compression="gzip"
        )
        made[...] = [np.frombuffer(png(), np.uint8)] * 5
        made.id.write_direct_chunk((0,), b"x\x9c\x03\x00\x00\x00\x00\x01")  # of no bytes

    path = own_file(tmp_path / "a.h5", fill)
    with pytest.raises(DataError, match="'cam' of episode_0: expected 80 bytes in every chunk"):
        look(path)


def test_what_a_process_apart_reads_ahead_comes_over() -> None:
    source = HDF5Source(SAMPLES["robomimic"], read_ahead=True)
    plain = look(SAMPLES["robomimic"])
    for position, episode in enumerate(source.episodes):
        for key in (*source.observations, source.actions):
            arrays = [s.read(position, key.name, 0, episode.length) for s in (source, plain)]
            np.testing.assert_array_equal(*arrays)
            assert arrays[0].flags.owndata is (key.kind == "image")  # the rest is shared memory
    source.release()
    np.testing.assert_array_equal(source.read(3, "actions", 0, 3), plain.read(3, "actions", 0, 3))


# Detection.


@pytest.mark.parametrize("name", SAMPLES)
def test_a_path_that_is_read(tmp_path: Path, name: str) -> None:
    assert reads(SAMPLES[name])
    assert reads(Path(shutil.copy(SAMPLES[name], tmp_path / "without_suffix")))
    assert reads(tmp_path) is False  # no file in it has a name of HDF5
    shutil.copy(SAMPLES[name], tmp_path / "file.hdf5")
    assert reads(tmp_path)


@pytest.mark.slow
def test_what_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("no HDF5")
    os.mkfifo(tmp_path / "pipe.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["traj_0/actions"] = np.ones((5, 2))
    for name in ("text.h5", "pipe.h5", "other.h5", "missing.h5"):
        assert reads(tmp_path / name) is False
    assert reads(tmp_path) is False
    shutil.copy(SAMPLES["d4rl"], tmp_path / "one.h5")
    (tmp_path / "text.h5").unlink()
    assert reads(tmp_path) is False  # not all of the folder is


def test_who_reads_a_damaged_file_says_what_is_wrong(tmp_path: Path) -> None:
    raw = SAMPLES["d4rl"].read_bytes()[:-9]
    for name, expected in (("file.hdf5", True), ("file.bin", False)):
        (tmp_path / name).write_bytes(raw)
        assert reads(tmp_path / name) is expected


@pytest.mark.slow
def test_a_file_behind_a_user_block(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=1024) as file:
        file["episode_0/actions"] = np.ones((5, 2))
        file["episode_0/observations/q"] = np.ones((5, 3))
    assert reads(tmp_path / "a.h5")
    assert look(tmp_path / "a.h5").read(0, "q", 0, 5).sum() == 15


# Damaged bytes.


def use_in_a_child(path: Path) -> str:
    """Read all of a file in a forked child and return what came of it, in one word."""
    pid = os.fork()
    if pid == 0:
        status = 3
        try:
            signal.alarm(20)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                source = look(path)
                for position, episode in enumerate(source.episodes):
                    for key in (*source.observations, source.actions):
                        source.read(position, key.name, 0, episode.length)
                    source.rewards(position)
            status = 0
        except DataError as error:
            status = 2 if str(error).isprintable() and " @ " in str(error) else 3
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return {0: "read", 2: "refused"}.get(status, f"failed with {status} @ {path}")


def damage(raw: bytes, rng: np.random.Generator) -> bytes:
    """Change some bytes, more often in the structure than in the data."""
    changed = bytearray(raw)
    known = [m.start() for m in re.finditer(rb"TREE|SNOD|HEAP|GCOL|OHDR|BTLF|FRHP", raw)]
    for _ in range(int(rng.integers(1, 5))):
        near = int(rng.choice(known)) + int(rng.integers(200))
        place = near if rng.random() < 0.7 else int(rng.integers(len(raw)))
        place = min(place, len(raw) - 8)
        values = (bytes(8), b"\xff" * 8, rng.bytes(8), bytes([raw[place] ^ 1]))
        value = values[rng.integers(4)]
        changed[place : place + len(value)] = value
    return bytes(changed)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("name", [*SAMPLES, "compressed"])
def test_damaged_bytes_are_read_or_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "file.hdf5"
    if name == "compressed":
        own_file(path, lambda group: frames_of(group, [png()] * 5))
    raw = path.read_bytes() if name == "compressed" else SAMPLES[name].read_bytes()
    tally: Counter[str] = Counter()
    for number in range(60):
        path.write_bytes(damage(raw, np.random.default_rng(number)))
        tally[use_in_a_child(path)] += 1
    assert set(tally) <= {"read", "refused"}, tally
    assert tally["refused"] > 5
