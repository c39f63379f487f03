"""What a folder's features, tasks and episodes become."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot_folders import (
    ACTION,
    CAMERAS,
    STATE,
    TASKS,
    change_features,
    change_info,
    change_table,
    index_of,
    state_of,
    write_index,
    write_lines,
    write_v3,
)
from PIL import Image
from simscaleai_plugin_lerobot.dataset import LeRobotDataset
from simscaleai_plugin_lerobot.source import LeRobotSource

from simscaleai_core.errors import DataError

EPISODE_0 = Path("data", "chunk-000", "episode_000000.parquet")
FILE_0 = Path("data", "chunk-000", "file-000.parquet")


def test_keys_and_numbers(folder: Path) -> None:
    source = LeRobotSource(folder)
    keys = {key.name: key for key in source.observations}
    assert list(keys) == [STATE, "observation.pose", "observation.gripper", *CAMERAS]
    assert (keys[STATE].shape, keys[STATE].dimensions) == ((3,), ("hip", "knee", "toe"))
    assert (keys["observation.pose"].shape, keys["observation.pose"].dimensions) == ((2, 2), ())
    assert (keys[CAMERAS[0]].kind, keys[CAMERAS[0]].shape) == ("image", (3, 64, 64))
    assert (source.actions.name, source.actions.dimensions) == ("actions", ("dx", "dy"))
    for episode, told in enumerate(source.episodes):
        state = state_of(episode, told.length)
        np.testing.assert_array_equal(source.read(episode, STATE, 1, 4), state[1:4])
        np.testing.assert_array_equal(source.read(episode, "actions", 0, 3), state[:3, :2] * 2)
        pose = source.read(episode, "observation.pose", 0, told.length)
        np.testing.assert_array_equal(pose[:, :, 1], state[:, :2])
        gripper = source.read(episode, "observation.gripper", 0, told.length)
        assert gripper.dtype == np.int64 and gripper[:, 0].tolist() == [
            t % 2 for t in range(told.length)
        ]
        assert source.rewards(episode).tolist() == list(range(told.length))


def test_episodes(folder: Path) -> None:
    source = LeRobotSource(folder)
    assert source.fps == 10
    assert [e.name for e in source.episodes] == [f"episode_{n}" for n in range(4)]
    assert [e.length for e in source.episodes] == [7, 5, 9, 6]
    assert [e.instructions for e in source.episodes] == [(TASKS[n % 2],) for n in range(4)]
    assert [e.success for e in source.episodes] == [True, False, True, True]
    assert [set(e.filter_keys) for e in source.episodes] == [{"train"}] * 3 + [{"val"}]
    assert all(path.is_file() for path in source.files)
    assert len(set(source.files)) == len(source.files)


def test_a_dataset_chooses_among_them(folder: Path) -> None:
    data = LeRobotDataset(folder, filter_key="val", obs_keys=[STATE])
    assert data.episodes == ("episode_3",)
    assert (
        LeRobotDataset(folder, only_successes=True, obs_keys=[STATE]).describe().num_episodes == 3
    )


def test_episodes_that_were_not_copied_are_not_needed(v2: Path) -> None:
    """A part of a data set that was downloaded, whose index names the whole."""
    (v2 / EPISODE_0).unlink()
    for path in (v2 / "videos").rglob("episode_000000.mp4"):
        path.unlink()
    assert len(LeRobotDataset(v2, episodes="1:")) == 20
    with pytest.raises(DataError, match=r"no such file.*or leave its episodes out"):
        LeRobotDataset(v2)


def test_the_info_file_names_the_folder(folder: Path) -> None:
    for path in (folder / "meta", folder / "meta" / "info.json"):
        assert LeRobotSource(path).path == folder


def test_what_is_left_out_is_named(v2: Path) -> None:
    scalar = {"dtype": "int64", "shape": [1], "names": None}
    added = {
        "annotation.human.validity": scalar, "note": {"dtype": "string", "shape": [1]},
        "action.joint": scalar, "language_events": {"dtype": "language", "shape": [1]},
        "heat": {"dtype": "float32", "shape": [16, 16, 3]},
    }  # fmt: skip
    change_features(v2, added)
    with pytest.warns(UserWarning, match="features that are left out") as caught:
        source = LeRobotSource(v2)
    (message,) = (str(w.message) for w in caught)
    assert all(repr(name) in message for name in added) and "\n" not in message
    assert not set(added) & {key.name for key in source.observations}


def test_the_actions_may_have_another_name(v2: Path) -> None:
    change_features(
        v2, {ACTION: None, "actions": {"dtype": "float32", "shape": [3], "names": None}}
    )
    for episode in range(4):
        path = v2 / f"data/chunk-{episode // 2:03d}/episode_{episode:06d}.parquet"
        change_table(path, {"actions": pq.read_table(path)[STATE]})
    assert LeRobotSource(v2).actions.shape == (3,)
    with pytest.warns(UserWarning, match=r"'actions' \(actions; choose them with action_key\)"):
        data = LeRobotDataset(v2, action_key="observation.pose", obs_keys=[STATE])
    assert data.describe().action_dim == 4


def test_actions_of_several_features(v2: Path) -> None:
    source = LeRobotSource(v2, action_key="action, observation.pose")
    assert (source.actions.shape, source.actions.dimensions) == ((6,), ())
    state = state_of(1, 5)
    wanted = np.hstack([state[:, :2] * 2, np.repeat(state[:, :2], 2, axis=1)])
    np.testing.assert_array_equal(source.read(1, "actions", 1, 4), wanted[1:4])
    assert "observation.pose" not in {key.name for key in source.observations}
    source = LeRobotSource(v2, action_key="observation.state,action")
    assert source.actions.dimensions == ("hip", "knee", "toe", "dx", "dy")


def test_slices_of_groot_name_dimensions(v2: Path) -> None:
    modality = {
        "state": {"leg": {"start": 0, "end": 2}, "toe": {"start": 2, "end": 3}},
        "action": {"base": {"start": 0, "end": 1}},
        "video": {"ego_view": {"original_key": CAMERAS[0]}},
        "annotation": {"human.task_description": {}},
    }
    (v2 / "meta" / "modality.json").write_text(json.dumps(modality))
    source = LeRobotSource(v2)
    assert source.observations[0].dimensions == ("leg.0", "leg.1", "toe")
    assert source.actions.dimensions == ("dx", "dy")  # not all of them have a slice
    modality["state"]["leg"] = {"start": 2, "end": 0}
    (v2 / "meta" / "modality.json").write_text(json.dumps(modality))
    with pytest.raises(DataError, match="field 'state/leg': expected a slice with start < end"):
        LeRobotSource(v2)


def test_of_several_tasks_the_frames_say_which(v2: Path) -> None:
    """GR00T's lists also hold labels."""
    lines = [
        {"episode_index": n, "tasks": [TASKS[n % 2], "valid"], "length": length}
        for n, length in enumerate((7, 5, 9, 6))
    ]
    write_lines(v2 / "meta" / "episodes.jsonl", lines)
    assert [e.instructions for e in LeRobotSource(v2).episodes] == [
        (TASKS[n % 2],) for n in range(4)
    ]


def test_frames_of_several_tasks_are_told(v3: Path) -> None:
    rows = index_of(v3)
    rows[0]["tasks"] = list(TASKS)
    write_index(v3, rows)
    tasks = pq.read_table(v3 / FILE_0)["task_index"].to_pylist()
    change_table(v3 / FILE_0, {"task_index": pa.array([1, 1, 1, 0, 0, 0, 0, *tasks[7:]])})
    source, told = LeRobotSource(v3), [TASKS[1]] * 3 + [TASKS[0]] * 4
    assert source.episodes[0].instructions == (TASKS[1], TASKS[0])
    assert source.timestep_instructions(0) == told
    data = LeRobotDataset(v3, episodes=[0], include_language=True, obs_keys=["observation.state"])
    assert data.__getitems__(range(7)).batch["language"] == told
    assert data.describe().instructions == tuple(sorted(TASKS))


def test_a_task_column_of_newer_versions(v3: Path) -> None:
    table = pa.table({"task": list(TASKS), "task_index": [0, 1]})
    pq.write_table(table, v3 / "meta" / "tasks.parquet")
    assert LeRobotSource(v3).timestep_instructions(1) == [TASKS[1]] * 5


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def test_images_in_parquet(tmp_path: Path) -> None:
    """As bytes, as paths of files beside it, grey, of depth, and as arrays of numbers."""
    root = write_v3(tmp_path / "data", (3, 4), cameras=())
    draw = np.random.default_rng(0)
    colour = draw.integers(0, 256, (7, 12, 16, 3), np.uint8)
    depth = draw.integers(0, 60000, (7, 12, 16)).astype(np.uint16)
    (root / "images").mkdir()
    for step in range(7):
        (root / "images" / f"{step}.png").write_bytes(png(colour[step]))
    bytes_alone = [{"bytes": png(f), "path": None} for f in colour]
    axes = ["channels", "height", "width"]
    change_features(root, {
        "observation.images.a": {"dtype": "image", "shape": [3, 12, 16], "names": axes},
        "observation.images.b": {"dtype": "image", "shape": [12, 16, 3], "names": None},
        "observation.images.grey": {"dtype": "image", "shape": [12, 16, 1], "names": None},
        "depth": {"dtype": "image", "shape": [12, 16, 1], "info": {"is_depth_map": True}},
        "pixels": {"dtype": "uint8", "shape": [12, 16, 3], "names": None},
        "distance": {"dtype": "uint16", "shape": [12, 16], "names": None},
    })  # fmt: skip
    change_table(root / FILE_0, {
        "observation.images.a": bytes_alone,
        "observation.images.b": [{"bytes": None, "path": f"images/{t}.png"} for t in range(7)],
        "observation.images.grey": [{"bytes": png(f[..., 0]), "path": "x"} for f in colour],
        "depth": [{"bytes": png(f), "path": None} for f in depth],
        "pixels": colour.tolist(),
        "distance": depth.tolist(),
    })  # fmt: skip
    source = LeRobotSource(root)
    kinds = {key.name: (key.kind, key.shape) for key in source.observations}
    assert kinds["observation.images.a"] == kinds["observation.images.b"] == ("image", (3, 12, 16))
    assert kinds["depth"] == kinds["distance"] == ("depth", (1, 12, 16))
    for key in ("observation.images.a", "observation.images.b", "pixels"):
        np.testing.assert_array_equal(source.read(1, key, 1, 3), colour[4:6])
    np.testing.assert_array_equal(
        source.read(0, "observation.images.grey", 0, 3), colour[:3, ..., :1]
    )
    for key in ("depth", "distance"):
        np.testing.assert_array_equal(source.read(1, key, 0, 4), depth[3:])


def test_row_groups_do_not_matter(v3: Path) -> None:
    """One row group for all, as converters write it, or one for every two rows."""
    change_features(v3, {"image": {"dtype": "image", "shape": [8, 8, 3], "names": None}})
    path, pixels = v3 / FILE_0, np.arange(12 * 192, dtype=np.uint8).reshape(12, 8, 8, 3)
    change_table(path, {"image": [{"bytes": png(f), "path": None} for f in pixels]})
    other = v3 / "data" / "chunk-000" / "file-001.parquet"
    change_table(other, {"image": [{"bytes": png(pixels[0]), "path": None}] * 15})
    for size in (1, 2, 5, 100):
        pq.write_table(pq.read_table(path), path, row_group_size=size)
        source = LeRobotSource(v3)
        np.testing.assert_array_equal(
            source.take(1, "image", np.array([0, 1, 4])), pixels[[7, 8, 11]]
        )
        np.testing.assert_array_equal(source.read(0, "image", 2, 7), pixels[2:7])


def test_version_2_0_has_no_count(v2: Path) -> None:
    change_info(v2, codebase_version="v2.0", total_episodes=None, splits=None, chunks_size=2)
    assert len(LeRobotSource(v2).episodes) == 4
