"""The index of files that took long to look at: opened again, they are not looked at again."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from simscaleai_plugin_hdf5.dataset import TrajectoryDataset
from simscaleai_plugin_hdf5.layouts import index


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """What was looked at; everything is worth an index, in a folder of the test's own."""
    seen: list[Path] = []
    look: Callable[..., Any] = index.read_structure

    def counted(path: Path, *args: Any, **kwargs: Any) -> Any:
        seen.append(path)
        return look(path, *args, **kwargs)

    monkeypatch.setattr(index, "WORTH_S", 0.0)
    monkeypatch.setattr(index, "read_structure", counted)
    monkeypatch.setenv("SIMSCALE_CACHE_DIR", str(tmp_path / "cache"))
    return seen


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.h5"
    write(path, 0.0)
    return path


def write(path: Path, first: float) -> None:
    with h5py.File(path, "w") as file:
        for number in range(3):
            group = file.create_group(f"episode_{number}")
            group["observations/q"] = np.arange(8.0).reshape(4, 2) + first
            group["actions"] = np.ones((4, 1))
            group.attrs["language"] = "reach"
            group["notes"] = ["a", "b", "c", "d"]


def opened(path: Path) -> TrajectoryDataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return TrajectoryDataset(path, include_language=True)


def test_it_is_found_again_and_gives_the_same(path: Path, looks: list[Path]) -> None:
    first, second = opened(path), opened(path)
    assert looks == [path]
    assert first.describe() == second.describe()
    one, other = (d.__getitems__(range(12)).batch for d in (first, second))
    assert torch.equal(one["actions"], other["actions"])
    assert torch.equal(one["observations"]["q"], other["observations"]["q"])
    assert one["language"] == other["language"]


def test_what_was_warned_of_is_warned_of_again(path: Path, looks: list[Path]) -> None:
    texts = []
    for _ in range(2):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            TrajectoryDataset(path)
        texts.append([str(warning.message) for warning in caught])
    assert looks == [path]
    assert texts[0] == texts[1]
    assert any("notes" in text for text in texts[0])


def test_a_changed_file_is_looked_at_anew(path: Path, looks: list[Path]) -> None:
    opened(path)
    write(path, 5.0)
    assert opened(path)[0]["observations"]["q"].tolist() == [5, 6]
    assert len(looks) == 2


def test_other_keys_are_looked_at_anew(path: Path, looks: list[Path]) -> None:
    opened(path)
    with pytest.raises(Exception, match="unknown observation key 'x'"):
        TrajectoryDataset(path, obs_keys=["x"])
    assert len(looks) == 2


@pytest.mark.parametrize("damage", ["cut", "flip", "json", "gone"])
def test_a_damaged_index_is_not_used(
    path: Path, looks: list[Path], tmp_path: Path, damage: str
) -> None:
    expected = opened(path).describe()
    (place,) = (tmp_path / "cache" / "hdf5").iterdir()
    numbers = place / "numbers.bin"
    raw = bytearray(numbers.read_bytes())
    if damage == "cut":
        numbers.write_bytes(raw[:-8])
    elif damage == "flip":
        raw[3] ^= 1
        numbers.write_bytes(raw)
    elif damage == "json":
        (place / "layout.json").write_text("{")
    else:
        shutil.rmtree(tmp_path / "cache")
    assert opened(path).describe() == expected
    opened(path)
    assert len(looks) == 2  # the third time it was whole again


def test_without_a_folder_there_is_none(
    path: Path, looks: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMSCALE_CACHE_DIR", "")
    opened(path), opened(path)
    monkeypatch.setenv("SIMSCALE_CACHE_DIR", "/dev/null/nothing")
    opened(path), opened(path)
    assert len(looks) == 4


def test_the_oldest_go_first(
    path: Path, looks: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(path)
    folder = tmp_path / "cache" / "hdf5"
    (old,) = folder.iterdir()
    os.utime(old, (1, 1))
    monkeypatch.setattr(index, "_MAX_BYTES", sum(f.stat().st_size for f in old.iterdir()) + 10)
    write(path, 1.0)
    opened(path)
    assert len(list(folder.iterdir())) == 1
    assert not old.exists()


def test_a_file_that_opens_fast_leaves_none(
    path: Path, looks: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "WORTH_S", 60.0)
    opened(path)
    assert not (tmp_path / "cache").exists()
