"""What is written is read back as it was, all of it or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from attrs import evolve
from lerobot_folders import write_v3
from simscaleai_plugin_lerobot.dataset import LeRobotDataset
from simscaleai_plugin_lerobot.source import LeRobotSource
from simscaleai_plugin_lerobot.writer import write
from simscaleai_plugin_lerobot.writing import data_files

from simscaleai_core.data.source import Episode, Key
from simscaleai_core.errors import DataError

LENGTHS = (5, 9, 3)
SAMPLE = Path(__file__).parent / "data" / "tiny_image"


class Memory:
    """Episodes in memory, of every kind of key."""

    def __init__(self, *, fps: float | None = 20.0) -> None:
        self.path = Path("memory")
        self.env = "reach"
        if fps:
            self.fps = fps
        self.observations: list[Key] = [
            Key(name="obs/joint_pos", shape=(7,), dtype="float64", dimensions=tuple("abcdefg")),
            Key(name="pose", shape=(4, 4)),
            Key(name="gripper", shape=(1,), dtype="bool"),
            Key(name="count", shape=(2,), dtype="int16"),
            Key(name="images/top", shape=(3, 16, 20), kind="image"),
            Key(name="grey", shape=(1, 16, 20), kind="image"),
            Key(name="depth", shape=(1, 16, 20), kind="depth", dtype="uint16"),
        ]
        self.actions = Key(name="actions", shape=(4,), dimensions=("x", "y", "z", "grip"))
        told = (("push", "shove"), (), ("pull",))
        parts = ({"train"}, {"valid", "half"}, {"train"})
        self.episodes = [
            Episode(
                name=f"demo_{n}", length=length, instructions=told[n], success=bool(n % 2),
                filter_keys=frozenset(parts[n]),
            )
            for n, length in enumerate(LENGTHS)
        ]  # fmt: skip
        draw = np.random.default_rng(0)
        self.data = [self.drawn(draw, length) for length in LENGTHS]

    def drawn(self, draw: np.random.Generator, length: int) -> dict[str, Any]:
        return {
            "obs/joint_pos": draw.normal(size=(length, 7)).astype(">f8"),
            "pose": draw.normal(size=(length, 4, 4)).astype("f4"),
            "gripper": draw.random((length, 1)) > 0.5,
            "count": draw.integers(-9, 9, (length, 2)).astype("i2"),
            "images/top": draw.integers(0, 256, (length, 16, 20, 3), np.uint8),
            "grey": draw.integers(0, 256, (length, 16, 20, 1), np.uint8),
            "depth": draw.integers(0, 60000, (length, 16, 20)).astype("u2"),
            "actions": draw.normal(size=(length, 4)).astype("f4"),
        }

    def read(self, episode: int, key: str, start: int, stop: int) -> Any:
        return self.data[episode][key][start:stop]

    def rewards(self, episode: int) -> Any:
        return np.arange(LENGTHS[episode]) / 10


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_there_and_back(tmp_path: Path) -> None:
    source = Memory()
    write(source, tmp_path / "out")
    found = LeRobotSource(tmp_path / "out")
    shapes = [(k.name, k.kind, k.shape, k.dimensions) for k in source.observations]
    assert [(k.name, k.kind, k.shape, k.dimensions) for k in found.observations] == shapes
    assert (found.fps, found.env, found.actions.dimensions) == (
        20.0,
        "reach",
        ("x", "y", "z", "grip"),
    )
    for number, (one, other) in enumerate(zip(source.episodes, found.episodes, strict=True)):
        for fact in ("length", "instructions", "success", "filter_keys"):
            assert getattr(one, fact) == getattr(other, fact)
        for key in (*found.observations, found.actions):
            wanted = source.data[number][key.name]
            values = found.read(number, key.name, 0, one.length)
            if wanted.dtype.kind == "f":
                wanted = wanted.astype(np.float32)
            assert values.dtype == wanted.dtype
            np.testing.assert_array_equal(values, wanted)
        assert found.rewards(number).tolist() == pytest.approx(
            (np.arange(one.length) / 10).tolist()
        )
        assert found.timestamps(number).tolist() == pytest.approx(
            (np.arange(one.length) / 20).tolist()
        )
    assert names_in(tmp_path) == ["out"]


def test_no_parts_are_made_up(tmp_path: Path) -> None:
    """lerobot wants a split that is called train."""
    source = Memory()
    source.episodes = [evolve(e, filter_keys=frozenset()) for e in source.episodes]
    write(source, tmp_path / "out")
    assert {e.filter_keys for e in LeRobotSource(tmp_path / "out").episodes} == {frozenset()}
    info = json.loads((tmp_path / "out" / "meta" / "info.json").read_text())
    assert info["splits"] == {"train": "0:3"}


def test_a_folder_again_is_the_same(tmp_path: Path) -> None:
    """Read, written and read: videos become images, everything else is as it was."""
    sound = write_v3(tmp_path / "data", (7, 5, 9))
    for number, path in enumerate((SAMPLE, sound)):
        write(LeRobotSource(path), tmp_path / f"once{number}")
        write(LeRobotSource(tmp_path / f"once{number}"), tmp_path / f"twice{number}")
        first = LeRobotDataset(path, include_language=True)
        for other in (f"once{number}", f"twice{number}"):
            second = LeRobotDataset(tmp_path / other, include_language=True)
            assert second.describe() == first.describe()
            sample, wanted = second[len(first) - 1], first[len(first) - 1]
            for key, values in wanted["observations"].items():
                np.testing.assert_array_equal(sample["observations"][key], values)


def test_statistics_are_those_of_lerobot(tmp_path: Path) -> None:
    """Of the sample, which lerobot wrote: its own, but for quantiles, which it approximates."""
    write(LeRobotSource(SAMPLE), tmp_path / "out")
    theirs, ours = (
        json.loads((p / "meta" / "stats.json").read_text()) for p in (SAMPLE, tmp_path / "out")
    )
    for feature in (
        "observation.state",
        "action",
        "observation.images.front",
        "next.reward",
        "index",
    ):
        assert set(theirs[feature]) == set(ours[feature])
        for name, values in theirs[feature].items():
            assert np.shape(values) == np.shape(ours[feature][name])
            # lerobot squares uint8 pixels without room for the result
            is_wrong = name == "std" and "images" in feature
            if not name.startswith("q") and not is_wrong:
                np.testing.assert_allclose(ours[feature][name], values, atol=1e-6)
    path = Path("meta", "episodes", "chunk-000", "file-000.parquet")
    wanted, found = (pq.read_table(p / path) for p in (SAMPLE, tmp_path / "out"))
    assert set(wanted.column_names) - set(found.column_names) == {
        name for name in wanted.column_names if name.startswith("stats/next.done/")
    }
    for name in found.column_names:
        if "/q" not in name and not ("images" in name and name.endswith("/std")):
            one, other = (np.asarray(t[name].to_pylist()) for t in (wanted, found))
            assert (
                (one == other).all()
                if one.dtype.kind in "iU"
                else np.allclose(one, other, atol=1e-4)
            )


def test_names_of_features(tmp_path: Path) -> None:
    write(Memory(), tmp_path / "out")
    info = json.loads((tmp_path / "out" / "meta" / "info.json").read_text())
    names = [
        "observation.joint_pos", "observation.pose", "observation.gripper", "observation.count",
        "observation.images.top", "observation.images.grey", "observation.depth", "action",
    ]  # fmt: skip
    assert list(info["features"])[:8] == names
    assert info["features"]["observation.pose"]["shape"] == [4, 4]
    assert (info["total_frames"], info["total_tasks"], info["fps"]) == (17, 4, 20)


def test_a_new_file_begins_when_one_is_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_files, "FILE_MIB", 0)
    monkeypatch.setattr(data_files, "CHUNK_SIZE", 2)
    write(Memory(), tmp_path / "out")
    found = LeRobotSource(tmp_path / "out")
    names = ["chunk-000/file-000", "chunk-000/file-001", "chunk-001/file-000"]
    assert [str(p.relative_to(tmp_path / "out" / "data")) for p in found._index.data.paths] == [
        f"{name}.parquet" for name in names
    ]
    assert found.read(2, "actions", 0, 3).shape == (3, 4)


def test_an_unknown_rate_is_told(tmp_path: Path) -> None:
    source: Any = Memory(fps=None)
    with pytest.warns(UserWarning, match="how many timesteps it has a second: 20 are assumed"):
        write(source, tmp_path / "out")
    source.timestamps = lambda episode: 3 + np.arange(LENGTHS[episode]) * 0.04
    write(source, tmp_path / "out")
    assert LeRobotSource(tmp_path / "out").fps == 25
    assert LeRobotSource(tmp_path / "out").timestamps(0).tolist() == pytest.approx(
        [0, 0.04, 0.08, 0.12, 0.16]
    )


def fail_in_the_middle(source: Any) -> None:
    source.data[1] = {}


def other_numbers(source: Any) -> None:
    source.data[2]["count"] = source.data[2]["count"] + 0.5


def not_finite(source: Any) -> None:
    source.data[1]["pose"][3, 0, 0] = np.nan


def other_length(source: Any) -> None:
    source.data[1]["actions"] = source.data[1]["actions"][:-1]


def one_name(source: Any) -> None:
    source.observations.append(Key(name="observations/pose", shape=(4, 4)))
    for episode in source.data:
        episode["observations/pose"] = episode["pose"]


def no_episode(source: Any) -> None:
    source.episodes = []


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (other_numbers, "field 'count' of demo_2: expected int16, as in the first episode"),
        (not_finite, "field 'pose' of demo_1: expected finite float32 numbers, got nan"),
        (other_length, r"field 'actions' of demo_1: expected \[9, 4\], got \[8, 4\]"),
        (one_name, "expected a feature for each key, got 'observation.pose' for 'pose'"),
        (no_episode, "expected at least one episode, got none"),
    ],
)
def test_nothing_is_written_of_what_cannot_be(
    tmp_path: Path, damage: Callable[[Any], None], expected: str
) -> None:
    write(LeRobotSource(SAMPLE), tmp_path / "out")
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    source = Memory()
    damage(source)
    with pytest.raises(DataError, match=expected):
        write(source, tmp_path / "out")
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_another_error_leaves_nothing_either(tmp_path: Path) -> None:
    source = Memory()
    fail_in_the_middle(source)
    with pytest.raises(KeyError):
        write(source, tmp_path / "out")
    assert names_in(tmp_path) == []


def test_what_is_no_data_set_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("all of it")
    for path in (tmp_path / "mine", tmp_path / "mine" / "thesis.tex"):
        with pytest.raises(DataError, match="expected a new folder, or a LeRobot data set"):
            write(Memory(), path)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "all of it"
    (tmp_path / "empty").mkdir()
    write(Memory(), tmp_path / "empty")
    write(LeRobotSource(SAMPLE), tmp_path / "empty")
    assert len(LeRobotSource(tmp_path / "empty").episodes) == 3
    assert names_in(tmp_path) == ["empty", "mine"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="could not write the data set: expected a complete folder"):
        write(Memory(), tmp_path / "file" / "out")
