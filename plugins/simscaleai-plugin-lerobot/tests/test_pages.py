"""One image is read without the others where the file allows it, and with pyarrow where not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from simscaleai_plugin_lerobot.reading.embedded import _OpenFile
from simscaleai_plugin_lerobot.reading.pages import PagedColumn, Unreadable
from simscaleai_plugin_lerobot.source import LeRobotSource
from simscaleai_plugin_lerobot.writer import write

SAMPLE = Path(__file__).parent / "data" / "tiny_image"
COLUMN = "image.bytes"


def blobs_of(count: int, size: int = 3000) -> list[bytes]:
    draw = np.random.default_rng(0)
    return [draw.bytes(int(n)) for n in draw.integers(1, size, count)]


def write_blobs(path: Path, blobs: list[bytes | None], **options: Any) -> Path:
    table = pa.table({"n": range(len(blobs)), "image": [{"bytes": b, "path": "x"} for b in blobs]})
    settings = {"use_dictionary": False, "write_batch_size": 1, "data_page_size": 8192, **options}
    pq.write_table(table, path, **settings)
    return path


def paged(path: Path, group: int = 0) -> PagedColumn:
    return PagedColumn(pa.OSFile(str(path)), pq.read_metadata(path), group, COLUMN)


@pytest.mark.parametrize("compression", ["NONE", "SNAPPY", "ZSTD", "GZIP"])
@pytest.mark.parametrize("statistics", [True, False])
def test_any_values_of_any_row_group(tmp_path: Path, compression: str, statistics: bool) -> None:
    blobs = blobs_of(50)
    path = write_blobs(
        tmp_path / "a.parquet", blobs, compression=compression, row_group_size=20,
        write_statistics=True, write_page_index=statistics,
    )  # fmt: skip
    draw = np.random.default_rng(1)
    for group, begin in enumerate((0, 20, 40)):
        column = paged(path, group)
        for _ in range(10):
            places = np.flatnonzero(draw.random(min(20, 50 - begin)) < 0.3)
            assert column.values(places) == [blobs[begin + place] for place in places.tolist()]


def test_long_headers(tmp_path: Path) -> None:
    """Statistics of values are in the headers of their pages."""
    blobs = [bytes([65 + n]) * 3000 for n in range(9)]
    assert paged(write_blobs(tmp_path / "a.parquet", blobs)).values(np.arange(9)) == blobs


@pytest.mark.parametrize(
    "options",
    [
        {"use_dictionary": True}, {"compression": "BROTLI"}, {"data_page_version": "2.0"},
        {"write_batch_size": 1024, "data_page_size": 2**30}, {"write_statistics": False},
    ],
    ids=["dictionary", "brotli", "version 2", "one page", "no statistics"],
)  # fmt: skip
def test_what_is_left_to_pyarrow(tmp_path: Path, options: dict[str, Any]) -> None:
    path = write_blobs(tmp_path / "a.parquet", blobs_of(100, 40_000), **options)
    with pytest.raises(Unreadable):
        paged(path)


def test_missing_values_are_left_to_pyarrow(tmp_path: Path) -> None:
    path = write_blobs(tmp_path / "a.parquet", [b"a", None, b"b"])
    with pytest.raises(Unreadable):
        paged(path)
    with pytest.raises(Unreadable):
        PagedColumn(pa.OSFile(str(path)), pq.read_metadata(path), 0, "image.nothing")


def test_a_changed_byte_is_no_other_exception(tmp_path: Path) -> None:
    """Whatever a damaged page makes of it: the values, others of them, or `Unreadable`."""
    blobs = blobs_of(30, 200)
    path = write_blobs(tmp_path / "a.parquet", blobs, compression="SNAPPY", data_page_size=512)
    metadata, content = pq.read_metadata(path), path.read_bytes()
    draw = np.random.default_rng(2)
    unreadable = 0
    for place in draw.integers(4, metadata.row_group(0).total_byte_size, 200).tolist():
        changed = bytearray(content)
        changed[place] ^= int(draw.integers(1, 256))
        path.write_bytes(changed)
        try:
            found = PagedColumn(pa.OSFile(str(path)), metadata, 0, COLUMN).values(np.arange(30))
            assert len(found) == 30
        except Unreadable:
            unreadable += 1
    assert unreadable > 5


def test_our_own_files_allow_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pyarrow is not asked for images of what our writer wrote."""
    write(LeRobotSource(SAMPLE), tmp_path / "out")
    source, before = LeRobotSource(tmp_path / "out"), LeRobotSource(SAMPLE)
    key = "observation.images.front"
    wanted = [before.take(e, key, np.array([0, 2, 3])) for e in range(3)]
    monkeypatch.setattr(_OpenFile, "cells", None)
    for episode in (2, 0, 1):
        found = source.take(episode, key, np.array([0, 2, 3]))
        np.testing.assert_array_equal(found, wanted[episode])
    with pytest.raises(TypeError):
        before.take(0, key, np.array([0]))  # lerobot's file has a dictionary
