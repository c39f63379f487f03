"""Replay buffers for the tests, written with zarr itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from simscaleai_plugin_zarr.source import ZarrSource

from simscaleai_core.errors import DataError

SLOW = pytest.mark.slow
LENGTHS = (5, 4, 6)
ROWS = sum(LENGTHS)


def quick_and_slow(quick: Sequence[Any], *slow: Any) -> list[Any]:
    """Return parameters, of which only the first run in the quick part."""
    return [*quick, *(pytest.param(value, marks=SLOW) for value in slow)]


def write_buffer(
    path: Path,
    arrays: Mapping[str, Any],
    lengths: Sequence[int] = LENGTHS,
    *,
    chunk_rows: int = 4,
    zarr_format: Any = 2,
    **options: Any,
) -> Path:
    """Write arrays of `data/`, and `meta/episode_ends`."""
    root = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    for name, values in arrays.items():
        made = root.create_array(
            f"data/{name}", shape=values.shape, dtype=values.dtype,
            chunks=(chunk_rows, *values.shape[1:]),
            config={"write_empty_chunks": True}, **options,
        )  # fmt: skip
        made[:] = values
    root.create_array("meta/episode_ends", data=np.cumsum(lengths))
    return path


def _values() -> dict[str, Any]:
    draw = np.random.default_rng(0)
    return {
        "action": draw.normal(size=(ROWS, 2)).astype("f4"),
        "state": draw.normal(size=(ROWS, 5)),
        "camera": draw.integers(0, 256, (ROWS, 8, 9, 3), np.uint8),
    }


@pytest.fixture
def arrays() -> dict[str, Any]:
    return _values()


@pytest.fixture(scope="session")
def _written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_buffer(tmp_path_factory.mktemp("zarr") / "buffer.zarr", _values())


@pytest.fixture
def buffer(tmp_path: Path, _written: Path) -> Path:
    """A replay buffer with which nothing is wrong."""
    return Path(shutil.copytree(_written, tmp_path / "buffer.zarr"))


@pytest.fixture
def archive(tmp_path: Path) -> Callable[..., Path]:
    """Zip a folder, as UMI does (the store at the top) or as people do (below a folder)."""

    def make(folder: Path, *, below: bool = False) -> Path:
        parts = (folder.parent, folder.name) if below else (folder, None)
        made = shutil.make_archive(str(tmp_path / "packed.zarr"), "zip", *parts)
        return Path(made)

    return make


@pytest.fixture
def refusal() -> Callable[..., str]:
    """Open and read everything, which must fail, and return the message after a look at it."""

    def read(path: Path, **options: Any) -> str:
        with pytest.raises(DataError) as caught:
            read_all(ZarrSource(path, **options))
        message = str(caught.value)
        assert "\n" not in message and message.endswith(".") and f"@ {path}. " in message
        assert ": expected " in message and ", got " in message
        return message

    return read


def read_all(source: ZarrSource) -> dict[str, Any]:
    """Return all timesteps of every key, one episode after the other."""
    keys = [key.name for key in (*source.observations, source.actions)]
    return {
        key: np.concatenate(
            [source.read(e, key, 0, episode.length) for e, episode in enumerate(source.episodes)]
        )
        for key in keys
    }
