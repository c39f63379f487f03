"""Whatever is broken gives one line that names file, episode and key, and says what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot_folders import (
    ACTION,
    CAMERAS,
    STATE,
    change_features,
    change_info,
    change_table,
    index_of,
    write_index,
    write_video,
)
from simscaleai_plugin_lerobot.dataset import LeRobotDataset
from simscaleai_plugin_lerobot.source import LeRobotSource

from simscaleai_core.errors import DataError

Refusal = Callable[..., DataError]

DATA = Path("data", "chunk-000", "file-001.parquet")
VIDEO = Path("videos", CAMERAS[1], "chunk-000", "file-001.mp4")
INFO = Path("meta", "info.json")


def truncate(path: Path, part: float = 0.6) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])


@pytest.mark.parametrize("budget_gib", [0.0, 2.0])
def test_a_missing_video(v3: Path, refusal: Refusal, budget_gib: float) -> None:
    """Also when nothing is decoded yet: a training would meet it hours later."""
    (v3 / VIDEO).unlink()
    error = refusal(v3, cache_images_gib=budget_gib)
    assert (error.path, error.episode, error.key) == (v3 / VIDEO, "episode_2", CAMERAS[1])
    assert str(error) == (
        f"missing video: expected a video, got no such file @ {v3 / VIDEO}. Copy the video again, "
        "whole, or leave the key out with obs_keys."
    )
    assert len(LeRobotDataset(v3, obs_keys=[STATE, CAMERAS[0]])) == 27


def test_a_video_with_a_frame_too_few(v3: Path, refusal: Refusal) -> None:
    write_video(v3 / VIDEO, list(range(14)))  # episodes of 9 and 6 timesteps
    error = refusal(v3)
    assert (error.path, error.episode, error.key) == (v3 / VIDEO, "episode_3", CAMERAS[1])
    assert str(error).startswith(
        "a frame is missing in the video: expected a frame at 1.4000 s, got the nearest one at "
        "1.3000 s @ "
    )


def test_a_video_with_a_gap(v3: Path, refusal: Refusal) -> None:
    write_video(v3 / VIDEO, list(range(14)), times=[t + (t > 3) for t in range(14)])
    error = refusal(v3)
    assert (error.episode, error.key) == ("episode_2", CAMERAS[1])
    assert "expected a frame at 0.4000 s" in str(error)


@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "audio"])
def test_a_damaged_video(v3: Path, refusal: Refusal, damage: str) -> None:
    path = v3 / VIDEO
    if damage == "truncated":
        truncate(path)
    elif damage == "audio":
        import av

        with av.open(str(path), "w", format="mp4") as container:
            stream = container.add_stream("aac", rate=8000)
            frame = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), "f4"), format="fltp", layout="mono"
            )
            frame.rate = 8000
            container.mux([*stream.encode(frame), *stream.encode(None)])
    else:
        path.write_bytes(b"a text" * 50 if damage == "text" else b"")
    error = refusal(v3)
    assert (error.path, error.episode, error.key) == (path, "episode_2", CAMERAS[1])
    assert "expected a sound video, got " in str(error)


def test_frames_of_another_size(v3: Path, refusal: Refusal) -> None:
    """Episodes of different cameras."""
    shape = {"dtype": "video", "shape": [48, 64, 3], "names": None}
    change_features(v3, {CAMERAS[0]: shape})
    error = refusal(v3)
    assert (error.episode, error.key) == ("episode_0", CAMERAS[0])
    assert "expected frames [7, 48, 64, 3]" in str(error)


def test_a_camera_that_only_some_episodes_have(v3: Path, refusal: Refusal) -> None:
    rows = index_of(v3)
    rows[2][f"videos/{CAMERAS[1]}/from_timestamp"] = None
    write_index(v3, rows)
    error = refusal(v3)
    assert (error.episode, error.key) == ("episode_2", CAMERAS[1])
    write_index(v3, [{k: v for k, v in r.items() if CAMERAS[1] not in k} for r in rows])
    assert refusal(v3).key == CAMERAS[1]
    assert len(LeRobotDataset(v3, obs_keys=[CAMERAS[0]])) == 27


@pytest.mark.parametrize("column", [STATE, ACTION, "timestamp", "episode_index"])
def test_parquet_without_a_column(v3: Path, refusal: Refusal, column: str) -> None:
    change_table(v3 / DATA, {column: None})
    error = refusal(v3)
    assert (error.path, error.key) == (v3 / DATA, column)
    assert (
        f"no column '{column}': expected this column, got 'action'" in str(error)
        or column == ACTION
    )
    if column == "timestamp":
        assert len(LeRobotDataset(v3, obs_keys=[STATE])) == 27  # nobody asks when a frame is
    if column == STATE:
        assert error.episode == "episode_2"
        assert len(LeRobotDataset(v3, obs_keys=["observation.pose"])) == 27


@pytest.mark.parametrize("name", ["data", "index", "tasks"])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.99])
def test_truncated_parquet(v3: Path, refusal: Refusal, name: str, part: float) -> None:
    places = {
        "data": DATA, "index": Path("meta", "episodes", "chunk-000", "file-000.parquet"),
        "tasks": Path("meta", "tasks.parquet"),
    }  # fmt: skip
    truncate(v3 / places[name], part)
    error = refusal(v3)
    assert error.path == v3 / places[name]
    assert "expected a sound parquet file, got " in str(error)


def test_a_missing_data_file(v3: Path, refusal: Refusal) -> None:
    (v3 / DATA).unlink()
    error = refusal(v3)
    assert (error.path, error.episode) == (v3 / DATA, "episode_2")
    assert "expected a parquet file, got no such file" in str(error)
    assert len(LeRobotDataset(v3, episodes="0:2")) == 12


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"codebase_version": "v4.1"}, "unknown layout: expected codebase_version v2.x or v3.x, got 'v4.1'"),
        ({"codebase_version": None}, "unknown layout"),
        ({"fps": None}, "field 'fps': expected timesteps per second > 0, got None"),
        ({"fps": -1}, "got -1"),
        ({"fps": "30"}, "got '30'"),
        ({"features": None}, "field 'features': expected a table of features"),
        ({"features": {"action": {"dtype": "float32"}}}, "field 'action': expected a table with dtype and shape"),
        ({"data_path": "data/{file}.parquet"}, "field 'data_path': expected a template of"),
        ({"data_path": None}, "field 'data_path': expected a template of a path, got None"),
        ({"total_episodes": 5}, "the index of episodes: expected 5 episodes"),
        ({"splits": {"train": "all"}}, "field 'splits': expected ranges such as '0:80', got 'all' for 'train'"),
    ],
)  # fmt: skip
def test_an_info_that_does_not_fit(
    folder: Path, refusal: Refusal, change: dict[str, Any], expected: str
) -> None:
    change_info(folder, **change)
    assert expected in str(refusal(folder))


@pytest.mark.parametrize("content", [None, "", "{", "[1]", '{"a": NaN', "\x00\xff"])
def test_no_info(folder: Path, refusal: Refusal, content: str | None) -> None:
    if content is None:
        (folder / INFO).unlink()
    else:
        (folder / INFO).write_text(content, "latin-1")
    assert refusal(folder).path == folder / INFO


def test_no_actions_or_observations(folder: Path, refusal: Refusal) -> None:
    change_features(folder, {ACTION: None})
    assert "field 'action': expected a feature of actions, got 'episode_index'" in str(
        refusal(folder)
    )
    assert "field 'arm': expected a feature of actions" in str(refusal(folder, action_key="arm"))
    change_features(folder, {ACTION: {"dtype": "video", "shape": [64, 64, 3]}})
    assert "expected numbers [A], got video [64, 64, 3]" in str(refusal(folder))
    table = json.loads((folder / INFO).read_text())["features"]
    change_info(folder, features={ACTION: table[STATE], "timestamp": table["timestamp"]})
    assert "expected at least one observation" in str(refusal(folder))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"length": 8}, "episode_1: expected 8 rows, as its length says, got rows 7 to 12"),
        ({"length": 8, "dataset_to_index": 15}, "episode_1: expected 8 rows, as the index of episodes says, got 5"),
        ({"data/file_index": 1}, "episode_1: expected 5 rows, as the index of episodes says, got 0"),
        ({"episode_index": 0}, "expected episodes, each once"),
        ({"episode_index": -1}, "field 'episode_index': expected whole numbers"),
        ({"length": 0, "dataset_to_index": 7}, "of at least one timestep"),
        ({"length": None}, "field 'length': expected whole numbers, for every episode"),
    ],
)  # fmt: skip
def test_an_index_that_does_not_fit(
    v3: Path, refusal: Refusal, change: dict[str, Any], expected: str
) -> None:
    rows = index_of(v3)
    rows[1] |= change
    write_index(v3, rows)
    assert expected in str(refusal(v3))


def test_an_index_without_a_column(v3: Path, refusal: Refusal) -> None:
    write_index(v3, [{k: v for k, v in row.items() if k != "tasks"} for row in index_of(v3)])
    assert refusal(v3).key == "tasks"
    shutil.rmtree(v3 / "meta" / "episodes")
    assert "expected parquet files of episodes, got none" in str(refusal(v3))


@pytest.mark.parametrize("content", [None, "", '{"episode_index": 0', '{"episode_index": 0}\n'])
def test_the_index_of_v2(v2: Path, refusal: Refusal, content: str | None) -> None:
    path = v2 / "meta" / "episodes.jsonl"
    path.unlink()
    if content is not None:
        path.write_text(content)
    assert refusal(v2).path == path


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (lambda n: pa.array([[1.0, 2.0]] * n), "expected [3] in every row"),
        (lambda n: pa.array([[1.0, 2.0, 3.0]] * (n - 1) + [[1.0]]), "expected [3] in every row"),
        (lambda n: pa.array([[1.0, 2.0, 3.0]] * (n - 1) + [None]), "got 1 empty rows"),
        (lambda n: pa.array([[1.0, None, 3.0]] * n), f"expected a number in every row, got {15} without"),
        (lambda n: pa.array(["text"] * n), "expected [3] in every row"),
        (lambda n: pa.array([["a", "b", "c"]] * n), "expected numbers, got"),
        (lambda n: pa.array([[1.0, float("nan"), 3.0]] * n), "finite float32 numbers, got nan at timestep 0"),
    ],
)  # fmt: skip
def test_rows_that_do_not_fit(v3: Path, refusal: Refusal, values: Any, expected: str) -> None:
    change_table(v3 / DATA, {STATE: values(15)})
    error = refusal(v3)
    assert (error.episode, error.key) == ("episode_2", STATE)
    assert expected in str(error)


def test_rows_of_episodes_in_turn(v3: Path, refusal: Refusal) -> None:
    order = pq.read_table(v3 / DATA)["episode_index"].to_numpy().copy()
    order[[3, 10]] = order[[10, 3]]
    change_table(v3 / DATA, {"episode_index": pa.array(order)})
    assert "expected the rows of each episode in one piece" in str(refusal(v3))


def test_whole_numbers_that_are_none(v3: Path, refusal: Refusal) -> None:
    change_table(v3 / DATA, {"observation.gripper": pa.array(np.linspace(0, 1, 15))})
    error = refusal(v3)
    assert (error.episode, error.key) == ("episode_2", "observation.gripper")


def test_images_that_are_none(v3: Path, refusal: Refusal) -> None:
    change_features(v3, {"image": {"dtype": "image", "shape": [8, 8, 3], "names": None}})
    for number, rows in enumerate((12, 15)):
        path = v3 / "data" / "chunk-000" / f"file-{number:03d}.parquet"
        change_table(path, {"image": [{"bytes": b"no picture", "path": None}] * rows})
    error = refusal(v3, obs_keys=["image"])
    assert (error.episode, error.key) == ("episode_0", "image")
    assert "expected images as PNG or JPEG, got frame 0" in str(error)
    change_table(v3 / "data" / "chunk-000" / "file-000.parquet", {"image": [None] * 12})
    assert "expected the bytes of an image" in str(refusal(v3, obs_keys=["image"]))


def test_statistics_that_do_not_fit(v3: Path) -> None:
    path = v3 / "meta" / "stats.json"
    path.write_text(json.dumps({STATE: {"mean": [1, 2], "std": [1], "min": [0], "max": [1]}}))
    with pytest.raises(
        DataError, match=r"field 'observation.state': expected 3 numbers under 'mean'"
    ):
        LeRobotSource(v3).stored_statistics()
    path.unlink()
    assert LeRobotSource(v3).stored_statistics() == {}


def test_a_template_leads_nowhere_else(folder: Path, refusal: Refusal) -> None:
    change_info(folder, data_path="{chunk_index.__class__}{episode_index.nothing}")
    assert "expected a template of" in str(refusal(folder))
