"""Data that is broken, or written to do harm, gives one clear error and takes no memory."""

from __future__ import annotations

import gzip
import json
import os
import resource
import shutil
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from simscaleai_plugin_zarr import arrays as described
from simscaleai_plugin_zarr.dataset import ZarrDataset
from simscaleai_plugin_zarr.detect import reads
from simscaleai_plugin_zarr.source import ZarrSource

from simscaleai_core.errors import DataError

from .conftest import LENGTHS, ROWS, quick_and_slow, write_buffer

Refusal = Callable[..., str]


def redescribe(buffer: Path, name: str, **fields: Any) -> None:
    """Change what an array says of itself."""
    path = buffer / name / ".zarray"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def set_ends(buffer: Path, ends: Any, **options: Any) -> None:
    root = zarr.open_group(buffer)
    root.create_array("meta/episode_ends", data=np.asarray(ends), overwrite=True, **options)


# Chunks.


@pytest.mark.parametrize("codec", ["blosc", "zstd", "zlib", "plain"])
@pytest.mark.parametrize("cut", quick_and_slow([-1], 0, 3))
def test_a_truncated_chunk(
    tmp_path: Path, arrays: Any, refusal: Refusal, codec: str, cut: int
) -> None:
    made = {"blosc": numcodecs.Blosc(), "zstd": numcodecs.Zstd(), "zlib": numcodecs.Zlib()}
    path = write_buffer(tmp_path / "x.zarr", arrays, compressors=made.get(codec))
    chunk = path / "data" / "state" / "2.0"
    chunk.write_bytes(chunk.read_bytes()[:cut])
    message = refusal(path)
    assert message.startswith("field 'state' of episode_1: expected readable chunks")
    assert codec in {"zstd", "zlib"} or "chunk 'data/state/2.0'" in message


def test_a_damaged_chunk_of_frames_is_named_when_it_is_read(buffer: Path) -> None:
    chunk = buffer / "data" / "camera" / "3.0.0.0"
    chunk.write_bytes(b"\0" * 20)
    source = ZarrSource(buffer)
    assert len(source.read(0, "camera", 0, 5)) == 5
    with pytest.raises(DataError, match="'camera' of episode_2") as caught:
        source.read(2, "camera", 0, 6)
    assert (caught.value.path, caught.value.episode, caught.value.key) == (
        buffer, "episode_2", "camera",
    )  # fmt: skip


def test_a_missing_chunk(buffer: Path, refusal: Refusal) -> None:
    (buffer / "data" / "camera" / "2.0.0.0").unlink()
    message = refusal(buffer)
    assert message.startswith("field 'camera' of episode_1: expected every chunk stored")
    assert "got no chunk 'data/camera/2.0.0.0'" in message


def test_a_chunk_that_goes_missing_later(buffer: Path) -> None:
    source = ZarrSource(buffer)
    (buffer / "data" / "state" / "3.0").unlink()
    with pytest.raises(DataError, match=r"nothing in the chunk 'data/state/3.0'"):
        source.read(2, "state", 0, 6)


def test_chunks_of_zeros_that_were_not_written(tmp_path: Path, refusal: Refusal) -> None:
    path = tmp_path / "x.zarr"
    root = zarr.open_group(path, mode="w", zarr_format=2)
    root.create_array("data/action", data=np.zeros((ROWS, 2)), chunks=(4, 2))
    root.create_array("meta/episode_ends", data=np.cumsum(LENGTHS))
    assert "write_empty_chunks=True" in refusal(path)


@pytest.mark.parametrize("shape", quick_and_slow([[2**40, 2]], [ROWS, 2**40], [ROWS, 2**20, 2**20]))
def test_terabytes_that_are_not_there(buffer: Path, refusal: Refusal, shape: list[int]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    redescribe(buffer, "data/state", shape=shape, chunks=[4, *[5] * (len(shape) - 1)])
    if shape[0] > ROWS:
        set_ends(buffer, [5, 9, shape[0]])
    refusal(buffer)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 2**10  # KiB


def test_numbers_out_of_proportion_to_what_is_stored(
    tmp_path: Path, refusal: Refusal, arrays: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(described, "FREE_BYTES", 2**16)
    zeros = {"zeros": np.zeros((ROWS, 50_000))}
    path = write_buffer(tmp_path / "x.zarr", arrays | zeros, compressors=numcodecs.Zstd())
    assert "most of them in 'zeros'" in refusal(path)


@pytest.mark.parametrize(
    ("chunks", "found"), [([4, 2**27], "4096 MiB"), ([2**27, 5], "5120 MiB"), ([2**40, 1], "MiB")]
)
def test_chunks_that_are_too_large(
    buffer: Path, refusal: Refusal, chunks: list[int], found: str
) -> None:
    redescribe(buffer, "data/state", chunks=chunks)
    message = refusal(buffer)
    assert "expected chunks of at most 256 MiB" in message and found in message


def test_a_chunk_that_is_a_large_file(buffer: Path, refusal: Refusal) -> None:
    with (buffer / "data" / "state" / "1.0").open("r+b") as file:
        file.truncate(2**40)  # takes no space
    assert "1099511627776 bytes in 'data/state/1.0'" in refusal(buffer)


def test_a_chunk_that_is_a_pipe(buffer: Path, refusal: Refusal) -> None:
    (buffer / "data" / "state" / "1.0").unlink()
    os.mkfifo(buffer / "data" / "state" / "1.0")
    assert "no chunk 'data/state/1.0'" in refusal(buffer)


BOMBS = {
    "gzip": gzip.compress(bytes(10**8)),
    "zlib": zlib.compress(bytes(10**8)),
    "zstd": b"\x28\xb5\x2f\xfd\xe0" + (2**44).to_bytes(8, "little") + b"\1\0\0",
    "blosc": b"\2\1\x21\x08" + b"".join(n.to_bytes(4, "little") for n in (2**31 - 64, 2**20, 16)),
}


@pytest.mark.parametrize("codec", quick_and_slow(["blosc", "zlib"], "gzip", "zstd"))
def test_chunks_that_decode_to_more_than_they_may(
    buffer: Path, refusal: Refusal, codec: str
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    redescribe(buffer, "data/state", compressor={"id": codec})
    (buffer / "data" / "state" / "0.0").write_bytes(BOMBS[codec][:60_000])
    assert "bytes instead of 160 in the chunk 'data/state/0.0'" in refusal(buffer)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 * 2**10  # KiB


# Codecs and types.


@pytest.mark.parametrize(
    "compressor", [{"id": "pickle"}, {"id": "bz2", "level": 1}, {"id": "json2"}, {"id": "../x"}]
)
def test_codecs_that_are_not_read(
    buffer: Path, refusal: Refusal, compressor: dict[str, Any]
) -> None:
    redescribe(buffer, "data/state", compressor=compressor)
    message = refusal(buffer)
    assert "at most one of the codecs blosc, gzip" in message
    assert repr(compressor["id"]) in message


def test_several_codecs(buffer: Path, refusal: Refusal) -> None:
    redescribe(buffer, "data/state", filters=[{"id": "zlib"}], compressor={"id": "zlib"})
    assert "got 'zlib' and 'zlib'" in refusal(buffer)


def test_shards_of_version_3(tmp_path: Path, arrays: Any, refusal: Refusal) -> None:
    path = write_buffer(tmp_path / "x.zarr", arrays, zarr_format=3)
    group = zarr.open_group(path)
    group.create_array("data/more", data=arrays["state"], chunks=(4, 5), shards=(8, 5))
    assert "got 'sharding_indexed'" in refusal(path)


def test_pickled_objects_are_never_opened(buffer: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    code = f"cposix\nsystem\n(S'touch {trap}'\ntR.".encode()
    shutil.copytree(buffer / "data" / "state", buffer / "data" / "objects")
    redescribe(buffer, "data/objects", dtype="|O", filters=[{"id": "pickle"}], compressor=None)
    for chunk in (buffer / "data" / "objects").glob("[0-9]*"):
        chunk.write_bytes(code)
    with pytest.warns(UserWarning, match=r"'objects' \(of \|O, no real numbers\)"):
        ZarrDataset(buffer)
    assert not trap.exists()
    with pytest.raises(DataError, match="'objects': expected actions, got an array of"):
        ZarrSource(buffer, "objects")


# Descriptions.


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "[" * 10**5, '{"zarr_format": 2}', "\xff",
        '{"zarr_format": 2, "shape": 3, "chunks": [1], "dtype": "<f4"}', " " * 2**21,
    ],
    ids=lambda text: f"{text[:20]} {len(text)}",
)  # fmt: skip
@pytest.mark.parametrize("name", quick_and_slow(["data/state"], "meta/episode_ends"))
def test_a_damaged_description(buffer: Path, refusal: Refusal, name: str, text: str) -> None:
    (buffer / name / ".zarray").write_text(text, "latin-1")
    assert "expected the description of an array" in refusal(buffer)


@pytest.mark.parametrize("separator", quick_and_slow(["/../../../"], "x", 3, None))
def test_a_separator_that_leads_out_of_the_store(
    buffer: Path, refusal: Refusal, separator: Any
) -> None:
    redescribe(buffer, "data/state", dimension_separator=separator)
    assert "expected '.' or '/' in the names of chunks" in refusal(buffer)


@pytest.mark.parametrize(
    "chunks", quick_and_slow([[4], [4, 0]], [4, 5, 6], [4, -1], [4, 2.0], [4, True])
)
def test_chunks_that_do_not_fit_the_shape(buffer: Path, refusal: Refusal, chunks: Any) -> None:
    redescribe(buffer, "data/state", chunks=chunks)
    refusal(buffer)


def test_links_that_lead_back_are_followed_once(buffer: Path, arrays: Any) -> None:
    (buffer / "data" / "again").symlink_to(buffer)
    (buffer / "data" / "state").rename(buffer.parent / "elsewhere")
    (buffer / "data" / "state").symlink_to(buffer.parent / "elsewhere")
    source = ZarrSource(buffer)
    np.testing.assert_array_equal(source.read(0, "state", 0, 5), arrays["state"][:5])


# Episodes.


@pytest.mark.parametrize(
    ("ends", "found"),
    [
        ([5, 5, 15], "5 after 5 at position 1"),
        ([5, 4, 15], "4 after 5 at position 1"),
        ([0, 9, 15], "0 after 0 at position 0"),
        ([-3, 9, 15], "-3 after 0 at position 0"),
        ([], "none"),
        ([[5, 9, 15]], "[1, 3] of "),
        ([5.0, 9.0, 15.0], "[3] of "),
    ],
)
def test_ends_that_are_no_ends(buffer: Path, refusal: Refusal, ends: Any, found: str) -> None:
    set_ends(buffer, np.asarray(ends, dtype=None if ends else "i8"), chunks=(3,) * np.ndim(ends))
    message = refusal(buffer)
    assert message.startswith("field 'meta/episode_ends': expected") and f"got {found}" in message


def test_ends_beyond_the_arrays(buffer: Path, refusal: Refusal) -> None:
    set_ends(buffer, [5, 9, 16])
    expected = "expected 16 timesteps, as meta/episode_ends says, got 15"
    assert expected in refusal(buffer)


def test_no_ends(buffer: Path, refusal: Refusal) -> None:
    shutil.rmtree(buffer / "meta")
    assert "expected the ends of the episodes, got no such array" in refusal(buffer)
    assert not reads(buffer)


def test_arrays_of_different_lengths(tmp_path: Path, arrays: Any, refusal: Refusal) -> None:
    path = write_buffer(tmp_path / "x.zarr", arrays | {"state": arrays["state"][:-1]})
    assert refusal(path).startswith("field 'state': expected 15 timesteps")


# Values.


def test_no_actions(tmp_path: Path, arrays: Any, refusal: Refusal) -> None:
    """As UMI's data has none."""
    del arrays["action"]
    path = write_buffer(tmp_path / "x.zarr", arrays)
    message = refusal(path)
    assert message.startswith("no action is stored: expected an array data/action")
    assert "got only 'camera', 'state'" in message and "with action_key" in message
    assert "expected actions, got frames" in refusal(path, action_key="camera")


def test_numbers_that_are_not_finite(tmp_path: Path, arrays: Any) -> None:
    arrays["state"][7, 2] = np.nan
    path = write_buffer(tmp_path / "x.zarr", arrays)
    with pytest.raises(DataError, match=r"'state' of episode_1: .* got nan at timestep 2, dim"):
        ZarrDataset(path)


@pytest.mark.parametrize(
    ("value", "scale"), [(1.5, "1"), (256.0, "255"), (np.nan, "255"), (-1, "1")]
)
def test_frames_out_of_their_range(
    tmp_path: Path, arrays: Any, refusal: Refusal, value: float, scale: str
) -> None:
    """The first frame of each episode says which range it is."""
    frames = np.full((ROWS, 8, 9, 3), 1.0 if scale == "1" else 200.0, np.float32)
    frames[6, 3, 3] = value
    path = write_buffer(tmp_path / "x.zarr", arrays | {"img": frames})
    message = refusal(path)
    assert message.startswith(f"field 'img' of episode_1: expected frames from 0 to {scale}")


# Archives.


def test_a_truncated_archive(buffer: Path, archive: Any, refusal: Refusal) -> None:
    path = archive(buffer)
    path.write_bytes(path.read_bytes()[:-40])
    assert "no readable zip file" in refusal(path)
    assert not reads(path)


def test_a_changed_byte_in_an_archive(buffer: Path, archive: Any, refusal: Refusal) -> None:
    path = archive(buffer)
    with zipfile.ZipFile(path) as packed:
        place = packed.getinfo("data/camera/0.0.0.0").header_offset + 200
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(raw)
    assert "'camera' of episode_0: expected readable chunks" in refusal(path)


def test_several_replay_buffers_in_an_archive(buffer: Path, archive: Any, refusal: Refusal) -> None:
    shutil.copytree(buffer, buffer.parent / "both" / "a")
    shutil.copytree(buffer, buffer.parent / "both" / "b")
    path = archive(buffer.parent / "both")
    assert "expected one replay buffer in the archive, got 2: 'a/', 'b/'" in refusal(path)
    assert not reads(path)


def test_names_that_lead_out_of_an_archive(buffer: Path, archive: Any) -> None:
    path = archive(buffer)
    outside = path.parent / "outside"
    outside.mkdir()
    shutil.copytree(buffer / "data" / "state", outside / "state")
    with zipfile.ZipFile(path, "a") as packed:
        packed.writestr(
            "data/../../outside/state/.zarray", (outside / "state" / ".zarray").read_text()
        )
        packed.writestr("/etc/.zarray", "{}")
    with pytest.raises(DataError, match="expected every chunk stored, got no chunk"):
        ZarrSource(path)
    assert sorted(p.name for p in outside.iterdir()) == ["state"]
