"""What is read of a replay buffer equals what zarr reads, whatever the way that it is stored."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from simscaleai_plugin_zarr.dataset import ZarrDataset
from simscaleai_plugin_zarr.detect import reads
from simscaleai_plugin_zarr.source import ZarrSource

from simscaleai_core.errors import DataError

from .conftest import LENGTHS, ROWS, quick_and_slow, read_all, write_buffer

COMPRESSIONS: dict[str, dict[str, Any]] = {
    "plain": {"compressors": None},
    "blosc": {"compressors": numcodecs.Blosc(cname="lz4", clevel=5, shuffle=1)},
    "zstd": {"compressors": numcodecs.Zstd()},
    "zlib": {"compressors": numcodecs.Zlib()},
    "gzip": {"compressors": numcodecs.GZip()},
    "order": {"compressors": None, "order": "F"},
    "slashes": {"chunk_key_encoding": {"name": "v2", "separator": "/"}},
    "version 3": {"zarr_format": 3},
    "version 3, plain": {"zarr_format": 3, "compressors": None},
    "version 3, blosc": {"zarr_format": 3, "compressors": zarr.codecs.BloscCodec()},
    "version 3, gzip": {"zarr_format": 3, "compressors": zarr.codecs.GzipCodec()},
    "version 3, dots": {"zarr_format": 3, "chunk_key_encoding": {"name": "v2", "separator": "."}},
}


@pytest.mark.parametrize("options", COMPRESSIONS.values(), ids=COMPRESSIONS)
@pytest.mark.parametrize("chunk_rows", quick_and_slow([4], 1, 40))
def test_all_that_zarr_writes_is_read(
    tmp_path: Path, arrays: dict[str, Any], options: dict[str, Any], chunk_rows: int
) -> None:
    path = write_buffer(tmp_path / "x.zarr", arrays, chunk_rows=chunk_rows, **options)
    assert reads(path)
    found = read_all(ZarrSource(path))
    written = zarr.open_group(path, mode="r")
    for name, key in (("action", "actions"), ("state", "state"), ("camera", "camera")):
        np.testing.assert_array_equal(found[key], written[f"data/{name}"][:])
        assert found[key].dtype == arrays[name].dtype


@pytest.mark.parametrize("below", [False, True])
def test_an_archive_is_read_in_place(buffer: Path, archive: Any, below: bool) -> None:
    path = archive(buffer, below=below)
    before = sorted(path.parent.iterdir())
    assert reads(path)
    one, other = read_all(ZarrSource(buffer)), read_all(ZarrSource(path))
    assert sorted(path.parent.iterdir()) == before
    for key, values in one.items():
        np.testing.assert_array_equal(values, other[key])


def test_parts_are_read_as_parts_of_the_whole(buffer: Path) -> None:
    source = ZarrSource(buffer)
    assert [episode.name for episode in source.episodes] == ["episode_0", "episode_1", "episode_2"]
    for key in ("state", "camera", "actions"):
        whole = source.read(2, key, 0, LENGTHS[2])
        for start in range(LENGTHS[2]):
            for stop in range(start, LENGTHS[2] + 1):
                part = source.read(2, key, start, stop)
                np.testing.assert_array_equal(part, whole[start:stop])


def test_what_is_read_may_be_changed(buffer: Path) -> None:
    source = ZarrSource(buffer)
    first = source.read(0, "state", 0, 5)
    kept = first.copy()
    first[:] = 0
    np.testing.assert_array_equal(source.read(0, "state", 0, 5), kept)


def test_a_closed_or_pickled_source_reads_on(buffer: Path, archive: Any) -> None:
    for path in (buffer, archive(buffer)):
        source = ZarrSource(path)
        before = source.read(1, "state", 0, 4)
        copied = pickle.loads(pickle.dumps(source))
        source.close()
        source.close()
        np.testing.assert_array_equal(source.read(1, "state", 0, 4), before)
        np.testing.assert_array_equal(copied.read(1, "state", 0, 4), before)


@pytest.mark.parametrize("type_name", quick_and_slow([">f4", "|b1"], "<f2", "<i8", "|u1", ">i2"))
def test_every_type_of_number(tmp_path: Path, arrays: dict[str, Any], type_name: str) -> None:
    values = np.arange(ROWS * 2).reshape(ROWS, 2).astype(type_name)
    path = write_buffer(tmp_path / "x.zarr", arrays | {"numbers": values})
    np.testing.assert_array_equal(read_all(ZarrSource(path))["numbers"], values)


def test_rows_matrices_and_frames(tmp_path: Path, arrays: dict[str, Any]) -> None:
    draw = np.random.default_rng(1)
    more = {
        "gripper": draw.normal(size=ROWS),
        "pose": draw.normal(size=(ROWS, 4, 4)),
        "first": draw.integers(0, 256, (ROWS, 3, 8, 9), np.uint8),
        "grey": draw.integers(0, 256, (ROWS, 8, 9), np.uint8),
        "unit": draw.random((ROWS, 8, 9, 3)).astype("f4"),
        "byte": draw.integers(0, 256, (ROWS, 8, 9, 3)).astype("f4"),
        "depth": draw.integers(0, 5000, (ROWS, 8, 9), np.uint16),
        "metres": draw.random((ROWS, 8, 9, 1)).astype("f8"),
    }
    source = ZarrSource(write_buffer(tmp_path / "x.zarr", arrays | more))
    keys = {key.name: (key.kind, key.shape) for key in source.observations}
    assert keys["gripper"] == ("low-dimensional", (1,))
    assert keys["pose"] == ("low-dimensional", (4, 4))
    assert keys["first"] == keys["byte"] == ("image", (3, 8, 9))
    assert keys["grey"] == ("image", (1, 8, 9))
    assert keys["depth"] == ("depth", (1, 8, 9))
    found = read_all(source)
    np.testing.assert_array_equal(found["gripper"][:, 0], more["gripper"])
    np.testing.assert_array_equal(found["first"], more["first"].transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(found["grey"][..., 0], more["grey"])
    np.testing.assert_array_equal(found["unit"], np.rint(more["unit"] * 255).astype("u1"))
    np.testing.assert_array_equal(found["byte"], more["byte"])
    np.testing.assert_array_equal(found["depth"], more["depth"])


def test_nested_arrays_have_the_names_of_their_paths(tmp_path: Path, arrays: Any) -> None:
    nested = {"obs/arm/joints": arrays["state"], **arrays}
    source = ZarrSource(write_buffer(tmp_path / "x.zarr", nested))
    assert [k.name for k in source.observations] == ["camera", "obs/arm/joints", "state"]
    np.testing.assert_array_equal(read_all(source)["obs/arm/joints"], arrays["state"])


def test_recorded_times_are_no_observation(tmp_path: Path, arrays: dict[str, Any]) -> None:
    times = 1.6e9 + np.arange(ROWS) / 10
    source = ZarrSource(write_buffer(tmp_path / "x.zarr", arrays | {"timestamp": times}))
    assert [key.name for key in source.observations] == ["camera", "state"]
    copied = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copied.timestamps(1), times[5:9])
    plain = ZarrSource(write_buffer(tmp_path / "y.zarr", arrays))
    assert plain.timestamps(0) is None


def test_what_is_not_read_is_named_with_the_reason(tmp_path: Path, arrays: Any) -> None:
    more = {
        "words": np.array(["a"] * ROWS),
        "clouds": np.zeros((ROWS, 2, 8, 9, 5), np.uint8),
        "actions": arrays["action"],
    }
    path = write_buffer(tmp_path / "replay_buffer.zarr", arrays | more)
    zarr.open_group(path)["meta"].create_array("lengths", data=np.array(LENGTHS))
    (tmp_path / "videos").mkdir()
    with pytest.warns(UserWarning, match="left out") as caught:
        source = ZarrSource(path)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert [key.name for key in source.observations] == ["camera", "state"]
    assert "'actions' (named as the actions" in message
    assert "'clouds' (of shape [15, 2, 8, 9, 5], neither numbers nor frames)" in message
    assert "'meta/lengths' (not in data/)" in message
    assert "'words' (of <U1, no real numbers)" in message
    assert "videos beside it" in message


def test_actions_from_other_arrays(tmp_path: Path, arrays: dict[str, Any]) -> None:
    path = write_buffer(tmp_path / "x.zarr", arrays)
    source = ZarrSource(path, "state")
    assert [key.name for key in source.observations] == ["action", "camera"]
    np.testing.assert_array_equal(read_all(source)["actions"], arrays["state"])
    joined = ZarrDataset(path, action_key="state,action")
    assert joined.describe().action_dim == 7
    wanted = np.concatenate([arrays["state"], arrays["action"]], axis=1).astype("f4")
    np.testing.assert_array_equal(joined[3]["actions"].numpy(), wanted[3])


def test_all_files_are_listed(buffer: Path, archive: Any) -> None:
    path = archive(buffer)
    assert ZarrSource(path).files == (path,)
    files = ZarrSource(buffer).files
    assert buffer / "data" / "state" / ".zarray" in files and len(files) > 15


@pytest.mark.parametrize(
    "name", ["no.zarr", "a.zarr", "notes.zip", "plain.zip", "folder.zip", "data.h5"]
)
def test_what_is_not_ours(tmp_path: Path, archive: Any, name: str, buffer: Path) -> None:
    path = tmp_path / name
    if name == "a.zarr":
        (path / "data").mkdir(parents=True)
    elif name == "notes.zip":
        path.write_text("no archive")
    elif name == "plain.zip":
        (tmp_path / "other").mkdir()
        archive(tmp_path / "other").rename(path)
    elif name == "folder.zip":
        path.mkdir()
    elif name == "data.h5":
        path.write_bytes(b"\x89HDF\r\n\x1a\n")
    assert not reads(path)
    with warnings.catch_warnings(), pytest.raises(DataError, match=f"@ {path}"):
        ZarrSource(path)
