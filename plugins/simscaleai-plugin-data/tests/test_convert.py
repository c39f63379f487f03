"""``simscale data convert``, as a user calls it, with a layout of the tests' own."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import npz_layout
import numpy as np
import pytest
from npz_layout import Made
from simscaleai_plugin_data.commands import app
from simscaleai_plugin_data.convert.loss import not_held
from simscaleai_plugin_data.convert.watched import Watched

from simscaleai_core.data.source import EpisodeSource
from simscaleai_core.errors import ConfigError, DataError, UnknownComponentError

RNG = np.random.default_rng(0)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.setenv("SIMSCALE_PLUGIN", npz_layout.__file__)

    def run(*words: object) -> str:
        app(["convert", *map(str, words)], result_action="return_value")
        return capsys.readouterr().out

    return run


def arrays(length: int, **extra: Any) -> dict[str, Any]:
    made = {
        "joint_pos": RNG.normal(size=(length, 3)),
        "image": RNG.integers(0, 256, (length, 9, 8, 3), dtype=np.uint8),
        "actions": RNG.normal(size=(length, 2)),
        "rewards": RNG.normal(size=length),
    }
    return {**made, **extra}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    about = [
        {"instructions": ("pick", "take"), "success": True, "filter_keys": frozenset({"train"})},
        {"instructions": ("push",), "success": False},
        {},
    ]
    path = tmp_path / "demos.npz"
    source = Made(
        [arrays(4), arrays(6), arrays(5)],
        episodes=about,
        fps=10,
        env="reach",
        dimensions={"actions": ["dx", "dy"]},
    )
    npz_layout.write(source, path)
    return path


def assert_equal(one: EpisodeSource, two: EpisodeSource) -> None:
    assert not_held(one, two) == []
    for number, episode in enumerate(one.episodes):
        for key in (*one.observations, one.actions):
            first, second = (s.read(number, key.name, 0, episode.length) for s in (one, two))
            assert first.dtype == second.dtype and np.array_equal(first, second)


def test_all_is_there_again(call: Callable[..., str], data: Path, tmp_path: Path) -> None:
    said = json.loads(call(data, "--to", "npz", "--output", tmp_path / "new.npz", "--json"))
    assert said == {
        "output": str(tmp_path / "new.npz"),
        "dataset": "npz_layout/npz",
        "num_episodes": 3,
        "num_timesteps": 15,
        "not_held": [],
    }
    assert_equal(npz_layout.read(data), npz_layout.read(tmp_path / "new.npz"))
    assert "nothing" in call(data, "--to", "npz", "--output", tmp_path / "again.npz")


def test_what_is_not_held_is_said(call: Callable[..., str], data: Path, tmp_path: Path) -> None:
    said = call(data, "--to", "write-numbers", "--output", tmp_path / "new.npz")
    (line,) = [line for line in said.splitlines() if line.startswith("not_held")]
    assert line.removeprefix("not_held").strip() == (
        "key 'image', the names of the dimensions of 'actions', "
        "the number type of 'actions', 'joint_pos' (float64 became float32), "
        "instructions of 2 episodes, success of 2 episodes, filter keys of 1 episode, "
        "timesteps per second, name of the environment, rewards"
    )


def test_instructions_of_timesteps_are_a_loss() -> None:
    class Told(Made):
        def timestep_instructions(self, number: int) -> list[str] | None:
            return None if number else ["push", "push", "lift", "lift", "lift"]

    several = {"instructions": ("push", "lift")}
    source, plain = (kind([arrays(5)] * 2, episodes=[several] * 2) for kind in (Told, Made))
    assert not_held(source, source) == not_held(plain, source) == []
    assert not_held(source, plain) == ["which timestep has which instruction in 1 episode"]


def test_timestamps_that_the_rate_gives_are_no_loss() -> None:
    steps = np.arange(5)
    plain = Made([arrays(5)], fps=10)
    assert not_held(Made([arrays(5, timestamps=7 + steps / 10)], fps=10), plain) == []
    late = np.where(steps > 2, steps + 1, steps)
    for source in (
        Made([arrays(5, timestamps=7 + late / 10)], fps=10),
        Made([arrays(5, timestamps=steps / 10)]),
    ):
        assert not_held(source, plain) == ["recorded timestamps"]


def test_what_no_reader_reads_is_not_compared(
    call: Callable[..., str], data: Path, tmp_path: Path
) -> None:
    words = (data, "--to", "npz-write-only", "--output", tmp_path / "new.npz", "--overwrite")
    assert "unknown: npz_layout/npz-write-only reads no episodes" in call(*words)
    assert json.loads(call(*words, "--json"))["not_held"] is None


def test_several_files_become_one(call: Callable[..., str], tmp_path: Path) -> None:
    for number in (2, 10):
        npz_layout.write(Made([arrays(number)]), tmp_path / f"{number}.npz")
    said = call(tmp_path / "*.npz", "--to", "npz", "--output", tmp_path / "all.npz", "--json")
    assert json.loads(said)["num_episodes"] == 2
    names = [episode.name for episode in npz_layout.read(tmp_path / "all.npz").episodes]
    assert names == ["2.npz/demo_0", "10.npz/demo_0"]


def test_files_with_other_keys_are_refused_key_by_key(
    call: Callable[..., str], data: Path, tmp_path: Path
) -> None:
    other = arrays(3, joint_pos=RNG.normal(size=(3, 4)))
    del other["image"]
    npz_layout.write(Made([other]), tmp_path / "other.npz")
    words = (
        r"the sources have different keys: expected the keys of .*demos\.npz "
        r"\('joint_pos' low-dimensional \[3\], 'image' image \[3, 9, 8\]\), "
        r"got 'joint_pos' low-dimensional \[4\], 'image' nowhere @ .*other\.npz\. "
        r"Convert them one by one\."
    )
    with pytest.raises(DataError, match=words):
        call(data, tmp_path / "other.npz", "--to", "npz", "--output", tmp_path / "all.npz")
    assert not (tmp_path / "all.npz").exists()


def test_what_is_there_is_kept(call: Callable[..., str], data: Path, tmp_path: Path) -> None:
    output = tmp_path / "new.npz"
    output.write_bytes(b"mine")
    with pytest.raises(ConfigError, match=r"new\.npz' exists: .* or add --overwrite\."):
        call(data, "--to", "npz", "--output", output)
    with pytest.raises(DataError, match="the disk is full"):
        call(data, "--to", "write-half", "--output", output, "--overwrite")
    assert output.read_bytes() == b"mine"
    call(data, "--to", "npz", "--output", output, "--overwrite")
    assert_equal(npz_layout.read(data), npz_layout.read(output))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["demos.npz", "new.npz"]


def test_a_folder_that_is_no_such_data_is_never_replaced(
    call: Callable[..., str], data: Path, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("mine")
    with pytest.raises(ConfigError, match="expected a data set of 'npz_layout/npz'"):
        call(data, "--to", "npz", "--output", tmp_path / "home", "--overwrite")
    assert (tmp_path / "home" / "thesis.tex").read_text() == "mine"


def test_a_folder_is_replaced_by_a_folder_and_a_file_by_a_file(
    call: Callable[..., str], data: Path, tmp_path: Path
) -> None:
    folder, file = tmp_path / "folder", tmp_path / "file.npz"
    call(data, "--to", "npz-folder", "--output", folder)
    (folder / "older").write_text("")
    call(data, "--to", "npz-folder", "--output", folder, "--overwrite")
    assert [p.name for p in folder.iterdir()] == ["data.npz"]
    file.write_text("mine")
    for to, output in (("npz-folder", file), ("npz-both", folder)):
        with pytest.raises(ConfigError, match="is not replaced: expected a f"):
            call(data, "--to", to, "--output", output, "--overwrite")
    assert file.read_text() == "mine" and (folder / "data.npz").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["demos.npz", "file.npz", "folder"]


@pytest.mark.parametrize("place", ["demos.npz", ".", "x/../demos.npz"])
def test_the_data_is_not_written_over(
    call: Callable[..., str], data: Path, tmp_path: Path, place: str
) -> None:
    before = data.read_bytes()
    with pytest.raises(ConfigError, match="the output overlaps the data"):
        call(data, "--to", "npz", "--output", tmp_path / place, "--overwrite")
    assert data.read_bytes() == before


def test_a_layout_without_a_writer(call: Callable[..., str], data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'npz-read-only' cannot be written: .*layout/npz'"):
        call(data, "--to", "npz-read-only", "--output", tmp_path / "new.npz")
    with pytest.raises(UnknownComponentError, match="unknown dataset 'parquet'"):
        call(data, "--to", "parquet", "--output", tmp_path / "new.npz")


def test_a_writer_that_forgets_episodes_is_found_out(
    call: Callable[..., str], data: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"expected 3 episodes of 15 timesteps.*, got 1 of 4"):
        call(data, "--to", "write-few", "--output", tmp_path / "new.npz")


def test_a_watched_source_counts_and_is_pickled_as_itself(data: Path) -> None:
    counts: list[int] = []
    source = npz_layout.read(data)
    watched = Watched(source, counts.append)
    for number in (0, 0, 2):
        watched.read(number, "actions", 0, 1)
    assert counts == [1, 2]
    assert watched.episodes == source.episodes and watched.fps == 10
    assert not hasattr(watched, "timestamps")
    assert pickle.loads(pickle.dumps(Watched(_Plain(), counts.append))).__class__ is _Plain


class _Plain:
    """What can be pickled."""
