"""A file that asks for more than it stores, or that HDF5 itself cannot bear, is refused."""

from __future__ import annotations

import os
import signal
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from simscaleai_plugin_hdf5.dataset import TrajectoryDataset
from simscaleai_plugin_hdf5.reading import apart, timesteps
from simscaleai_plugin_hdf5.reading.guard import stored_in
from simscaleai_plugin_hdf5.reading.timesteps import Timesteps
from simscaleai_plugin_hdf5.source import HDF5Source
from simscaleai_plugin_hdf5.writer import EpisodeWriter

from simscaleai_core.data.location import Location
from simscaleai_core.errors import DataError

Edit = Callable[[h5py.File], None]
Refusal = Callable[[], DataError]
LIMIT = r"expected at most 64 MiB and 250 times the \d+ bytes of the file"
HERE = Location(path=Path("file.h5"))


def slow(*values: Any) -> Any:
    """A further case of a kind that another case tries in the quick part."""
    return pytest.param(*values, marks=pytest.mark.slow)


# What is declared is in proportion to what is stored, over the whole file.


def declare(group: h5py.Group, name: str, shape: tuple[int, ...], **options: Any) -> None:
    del group[name]
    group.create_dataset(name, shape=shape, dtype=options.pop("dtype", "f8"), **options)


def one_large_dataset(file: h5py.File) -> None:
    """Just under 4 GiB, in each dataset of one episode."""
    steps = 2**32 // 56 - 1
    for name, width in (("observations/joint_pos", 7), ("observations/ee_pos", 3), ("actions", 4)):
        declare(file["episode_1"], name, (steps, width), chunks=(1024, width))


def many_small_datasets(file: h5py.File) -> None:
    """No dataset above 2 MiB."""
    for number in range(4, 204):
        group = file.create_group(f"episode_{number}")
        group["observations"] = file["episode_0/observations"]
        group.create_dataset("actions", shape=(6, 40_000), dtype="f8")


def many_chunks(file: h5py.File) -> None:
    """Little data, in chunks of one byte."""
    declare(file["episode_0"], "actions", (50_000, 4), dtype="u1", chunks=(1, 1))


def huge_chunks(file: h5py.File) -> None:
    """One byte of a chunk of 100 MiB is used."""
    declare(
        file["episode_0/observations"], "ee_pos", (6, 3), dtype="u1", chunks=(2**20, 100),
        maxshape=(None, None),
    )  # fmt: skip


def many_dimensions(file: h5py.File) -> None:
    """Statistics of a million dimensions."""
    for number in range(4):
        declare(file[f"episode_{number}/observations"], "ee_pos", (6, 90_000), dtype="f4")


def huge_images(file: h5py.File) -> None:
    """Images of 100 megapixels."""
    for number in range(4):
        declare(
            file[f"episode_{number}/observations"], "image", (6, 10_000, 10_000, 3), dtype="u1",
            chunks=(1, 1000, 1000, 3),
        )  # fmt: skip


def small_integers(file: h5py.File) -> None:
    """Numbers of one byte take four in memory."""
    for number in range(4):
        declare(file[f"episode_{number}/observations"], "ee_pos", (6, 2**20), dtype="u1")


def one_episode_under_many_names(file: h5py.File) -> None:
    for number in range(4, 2000):
        file[f"episode_{number}"] = file["episode_0"]


def one_key_under_many_names(file: h5py.File) -> None:
    shared = file["episode_0/observations"]
    for copy in range(50):
        shared[f"key_{copy}"] = shared["ee_pos"]
    for number in range(1, 100):
        group = file.require_group(f"episode_{number}")
        group.pop("observations", None)
        group["observations"] = shared
        group["actions"] = group.pop("actions", file["episode_0/actions"])


@pytest.mark.parametrize(
    "edit",
    [
        one_large_dataset, slow(many_small_datasets), many_chunks, huge_chunks, many_dimensions,
        huge_images, slow(small_integers), one_episode_under_many_names,
        slow(one_key_under_many_names),
    ],
)  # fmt: skip
def test_more_is_declared_than_stored(sound_file: Path, refusal: Refusal, edit: Edit) -> None:
    with h5py.File(sound_file, "a") as file:
        edit(file)
    with pytest.raises(DataError, match=LIMIT):
        raise refusal()


@pytest.mark.slow
def test_frames_of_one_colour_are_no_bomb(tmp_path: Path) -> None:
    """Our own writer makes 150 times less of them; they must stay readable."""
    with EpisodeWriter(tmp_path / "a.h5") as writer:
        black = {"image": np.zeros((80, 640, 640, 3), np.uint8)}
        writer.write(black, np.zeros((80, 4)), np.zeros(80))
    assert not HDF5Source(tmp_path / "a.h5").read(0, "image", 0, 80).any()
    decoded = 80 * 640 * 640 * 3
    assert decoded > 64 * 2**20 and decoded > 100 * (tmp_path / "a.h5").stat().st_size


# Texts.


def test_a_long_text_named_many_times(sound_file: Path, refusal: Refusal) -> None:
    with h5py.File(sound_file, "a") as file:
        file["episode_0"].attrs["language"] = ["x" * 100] * 4000
    assert "expected one text or a list of at most 100, got an array [4000]" in str(refusal())


@pytest.mark.parametrize("stored", ["x" * 65537, slow(np.bytes_(b"x" * 65000).ljust(65537, b"x"))])
def test_a_very_long_text(sound_file: Path, refusal: Refusal, stored: Any) -> None:
    with h5py.File(sound_file, "a", libver="v110") as file:
        file["episode_0"].attrs["language"] = stored
    assert "expected a text of at most 65536 bytes, got 65537 bytes" in str(refusal())


def test_a_changed_text(tmp_path: Path, make_episode: Any) -> None:
    path, made = tmp_path / "a.h5", make_episode(3)
    with EpisodeWriter(path, env="reach") as writer:
        told = {"language": "touch the red cube"}
        writer.write(made["observations"], made["actions"], made["rewards"], **told)
    path.write_bytes(path.read_bytes().replace(b"the red cube", b"the rod cube"))
    with pytest.raises(DataError, match=r"'@language' of episode_0: .* got 'touch the rod cube'"):
        HDF5Source(path).episodes  # noqa: B018 - reading them looks at the file
    with h5py.File(path, "a") as file:
        del file["episode_0"].attrs["language_crc32"]
    assert HDF5Source(path).episodes[0].instructions == ("touch the rod cube",)


@pytest.mark.parametrize(
    "value", ["yes", slow(h5py.Empty("f8")), slow(["a", "b"]), slow(np.zeros(2, "V7"))]
)
def test_success_that_is_no_truth_value(sound_file: Path, value: Any) -> None:
    with h5py.File(sound_file, "a") as file:
        file["episode_2"].attrs["success"] = value
    with pytest.raises(DataError, match="'@success' of episode_2: expected true or false"):
        HDF5Source(sound_file).episodes  # noqa: B018 - reading them looks at the file


# Names.


def test_a_name_that_is_a_path(sound_file: Path, refusal: Refusal) -> None:
    """``x/y`` as one name would lead through the link ``x``."""
    os.mkfifo(sound_file.with_name("trap"))
    with h5py.File(sound_file, "a") as file:
        for number in range(4):
            group = file[f"episode_{number}/observations"]
            group["x"] = h5py.ExternalLink("trap", "/")
            group["x_y"] = np.ones((6, 3))
    raw = sound_file.read_bytes()
    sound_file.write_bytes(raw.replace(b"\3x_y", b"\3x/y"))
    with pytest.raises(DataError):
        raise refusal()
    with pytest.raises(DataError, match="expected a name without '/'"):
        TrajectoryDataset(sound_file, obs_keys=["x/y"])


def test_a_number_of_thousands_of_digits(sound_file: Path) -> None:
    with h5py.File(sound_file, "a") as file:
        file["episode_" + "9" * 5000] = 1.0
    with pytest.warns(UserWarning, match=r"are not episodes .*'\.\.\.") as caught:
        TrajectoryDataset(sound_file)
    assert len(str(caught[0].message)) < 400


# Chunks that do not decode to their size.

VALUES = np.arange(18.0).reshape(6, 3)
FILTERS: list[dict[str, Any]] = [
    {"compression": "gzip"},
    {"compression": "gzip", "shuffle": True, "fletcher32": True},
    {"compression": "lzf", "shuffle": True},
    {"fletcher32": True},
]
LZF_LITERALS = b"".join(b"\x1f" + VALUES.tobytes()[i : i + 32] for i in range(0, 96, 32))


@pytest.mark.parametrize(
    ("options", "raw", "mask"),
    [
        (FILTERS[0], zlib.compress(bytes(10**6)), 0),
        slow(FILTERS[0], zlib.compress(VALUES.tobytes()[:-1]), 0),
        slow(FILTERS[0], zlib.compress(VALUES.tobytes())[:-3], 0),
        slow(FILTERS[0], b"\0" * 144, 0),
        slow(FILTERS[0], b"\0" * 8, 1),
        (FILTERS[1], b"\0\0", 0),
        slow(FILTERS[1], zlib.compress(bytes(143)), 4),
        slow(FILTERS[2], LZF_LITERALS, 0),
        (FILTERS[2], LZF_LITERALS[:-1], 0),
        slow(FILTERS[2], b"\xff", 0),
        slow(FILTERS[3], b"\0\0\0", 0),
        slow(FILTERS[3], b"\0" * 143, 1),
        (FILTERS[3], b"\0" * 2000, 1),
    ],
)
def test_a_chunk_of_another_size(
    sound_file: Path, refusal: Refusal, options: dict[str, Any], raw: bytes, mask: int
) -> None:
    with h5py.File(sound_file, "a") as file:
        del file["episode_1/observations/ee_pos"]
        made = file.create_dataset(
            "episode_1/observations/ee_pos", data=VALUES, chunks=(6, 3), **options
        )
        made.id.write_direct_chunk((0, 0), raw, mask)
    message = r"'ee_pos' of episode_1: expected 144 bytes in every chunk, got a damaged one at \["
    with pytest.raises(DataError, match=message):
        raise refusal()


@pytest.mark.parametrize("options", [*FILTERS, {}])
@pytest.mark.parametrize("kind", ["noise", "zeros", "steps"])
def test_sound_chunks_are_read(tmp_path: Path, options: dict[str, Any], kind: str) -> None:
    """Chunks that overlap the edges, some never written, several along each axis."""
    rng = np.random.default_rng(0)
    values = {
        "noise": rng.normal(size=(53, 70)),
        "zeros": np.zeros((53, 70)),
        "steps": np.repeat(rng.normal(size=(53, 7)), 10, axis=1),
    }[kind]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        made = file.create_dataset("x", values.shape, "f8", chunks=(8, 16), **options)
        made[:40] = values[:40]
        made[-1] = values[-1]
    values[40:-1] = 0
    with h5py.File(tmp_path / "a.h5") as file:
        found = Timesteps(stored_in(file["x"].id, HERE), HERE)
        assert (found.read(0, 53) == values).all()
        assert (found.read(9, 17) == values[9:17]).all()


def test_long_episodes_are_read_in_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_episode: Any
) -> None:
    monkeypatch.setattr(timesteps, "_BLOCK_BYTES", 1000)
    made = make_episode(500, image=True)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("episode_0")
        for key, value in made["observations"].items():
            group.create_dataset(f"observations/{key}", data=value, chunks=(7, *value.shape[1:]))
        group["actions"] = made["actions"]
        stored = stored_in(group["observations/joint_pos"].id, HERE)
        blocks = list(Timesteps(stored, HERE).blocks())
    assert blocks[:2] == [(0, 14), (14, 28)] and blocks[-1] == (490, 500)
    batch = TrajectoryDataset(tmp_path / "a.h5").__getitems__(range(500)).batch
    expected = made["observations"]["joint_pos"].astype(np.float32)
    assert (batch["observations"]["joint_pos"].numpy() == expected).all()
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["episode_0/observations/joint_pos"][400, 3] = np.nan
    with pytest.raises(DataError, match="nan at timestep 400, dimension 3"):
        TrajectoryDataset(tmp_path / "a.h5")


@pytest.mark.parametrize("options", [{"scaleoffset": 3}, {"compression": "szip"}])
def test_filters_that_check_no_size(
    sound_file: Path, refusal: Refusal, options: dict[str, Any]
) -> None:
    if options.get("compression") == "szip" and not h5py.h5z.get_filter_info(4) & 1:
        pytest.skip("this HDF5 writes no szip")
    with h5py.File(sound_file, "a") as file:
        del file["episode_0/actions"]
        file.create_dataset("episode_0/actions", data=np.ones((6, 4)), chunks=(6, 4), **options)
    assert "expected one of the filters gzip, lzf, shuffle and fletcher32" in str(refusal())


def test_compression_twice(sound_file: Path, refusal: Refusal) -> None:
    with h5py.File(sound_file, "a") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((6, 4))
        properties.set_deflate(9)
        properties.set_filter(h5py.h5z.FILTER_LZF, 0, (0, 0, 192))
        group = file["episode_0"]
        del group["actions"]
        space = h5py.h5s.create_simple((6, 4))
        h5py.h5d.create(group.id, b"actions", h5py.h5t.IEEE_F64LE, space, properties)
    assert "expected one compression, after shuffling, got several filters" in str(refusal())


# What HDF5 itself cannot bear happens in another process.


def test_a_text_on_which_hdf5_loops_for_ever(
    sound_file: Path, refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "LIMIT_S", 0.3)
    with h5py.File(sound_file, "a") as file:
        file["episode_0"].attrs["language"] = "push the cube"
    raw = bytearray(sound_file.read_bytes())
    heap = raw.index(b"GCOL")
    raw[heap + 16 : heap + 32] = bytes(16)  # the first object of the heap: no number, no size
    sound_file.write_bytes(raw)
    assert "expected readable data, got no progress in 0.3 s of computing" in str(refusal())


def test_a_crash_is_one_error() -> None:
    message = "the file: expected readable data, got a crash of the HDF5 library .SIGSEGV."
    with pytest.raises(DataError, match=message):
        apart.apart(lambda: os.kill(os.getpid(), signal.SIGSEGV), HERE)


def test_what_happens_apart_comes_back() -> None:
    def work() -> dict[str, Any]:
        warnings.warn("ignored", stacklevel=1)
        return {"pid": os.getpid(), "odd": "a\udcff"}

    def fails() -> None:
        raise HERE.at(episode="episode_1", key="x").error("a", "b", "c")

    with pytest.warns(UserWarning, match="ignored"):
        found = apart.apart(work, HERE)
    assert found["pid"] != os.getpid() and found["odd"] == "a\udcff"
    with pytest.raises(DataError, match="field 'x' of episode_1") as caught:
        apart.apart(fails, HERE)
    assert (caught.value.episode, caught.value.key) == ("episode_1", "x")
    with pytest.raises(ZeroDivisionError):  # a fault of ours is seen as what it is
        apart.apart(lambda: 1 // 0, HERE)
