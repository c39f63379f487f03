"""Files of other projects hold exactly what their expected.json says, read where they lie."""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simscaleai_plugin_hdf5.dataset import TrajectoryDataset
from simscaleai_plugin_hdf5.detect import reads
from simscaleai_plugin_hdf5.source import HDF5Source
from simscaleai_plugin_hdf5.writer import EpisodeWriter

HERE = Path(__file__).resolve().parent
OURS = HERE / "data"
SHARED = Path(os.environ.get("SIMSCALE_SAMPLES", HERE.parents[3] / "shared" / "samples"))
MINARI = {OURS: "minari/tiny", SHARED: "minari/simscale/tiny/raw-v0"}
CASES = [
    pytest.param(
        root / data,
        root / expected,
        layout,
        id=f"{root.name}-{data}",
        marks=pytest.mark.slow if root == SHARED else (),
    )
    for root in (OURS, SHARED)
    for data, expected, layout in (
        ("robomimic/tiny_image.hdf5", "robomimic/expected.json", "robomimic"),
        ("aloha/sim", "aloha/sim/expected.json", "aloha"),
        ("aloha/real", "aloha/real/expected.json", "aloha"),
        (MINARI[root], "minari/expected.json", "minari"),
        (f"{MINARI[root]}/data/main_data.hdf5", "minari/expected.json", "minari"),
        ("d4rl/halfcheetah_tiny.hdf5", "d4rl/expected.json", "d4rl"),
    )
    if (root / data).exists()
]
pytestmark = pytest.mark.filterwarnings("ignore:the last 5 of 12 timesteps")


def source_of(path: Path) -> HDF5Source:
    source = HDF5Source(path)
    assert source.episodes
    return source


def expected_of(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text())
    if "datasets" in found:  # Minari counts its episodes; others name them
        found = found["datasets"]["simscale/tiny/raw-v0"]
        found["order"] = [str(number) for number in range(found["total_episodes"])]
    return found


def digest_of(raw: Any) -> str:
    described = f"{raw.dtype.str}|{raw.shape}|".encode()
    return hashlib.sha256(described + raw.tobytes()).hexdigest()


def check_array(raw: Any, facts: dict[str, Any]) -> None:
    assert (raw.dtype.str, list(raw.shape)) == (facts["dtype"], facts["shape"])
    assert digest_of(raw) == facts["sha256"]


@pytest.mark.parametrize(("path", "expected_path", "layout"), CASES)
def test_every_array_is_what_was_written(path: Path, expected_path: Path, layout: str) -> None:
    source, expected = source_of(path), expected_of(expected_path)
    assert source.layout.name == layout
    assert reads(path)
    names = [Path(n).stem for n in expected.get("order", ["0", "1"])]
    assert [e.name for e in source.episodes] == [
        f"episode_{name}" if name.isdigit() else name for name in names
    ]
    for position, name in enumerate(names):
        told = expected["episodes"][name]
        length = told["length"]
        assert source.episodes[position].length == length
        assert source.episodes[position].success == told.get(
            "success", told.get("infos_success", [None])[-1]
        )
        keys = {"state" if k == "observations" else k: facts for k, facts in told["obs"].items()}
        assert [key.name for key in source.observations] == sorted(keys)
        for key, facts in keys.items():
            # Minari stores one observation after the last action, which no window uses
            check_array(source.read(position, key, 0, facts["shape"][0]), facts)
            assert len(source.read(position, key, 1, length)) == length - 1
        check_array(source.read(position, "actions", 0, length), told["actions"])
        if "rewards" in told:
            check_array(source.rewards(position), told["rewards"])
        else:
            assert source.rewards(position) is None
        words = told.get("language") or next(iter(told.get("mission", [])), None)
        assert source.episodes[position].instructions == ((words,) if words else ())


@pytest.mark.parametrize(("path", "expected_path", "layout"), CASES)
def test_a_dataset_has_the_same_numbers(path: Path, expected_path: Path, layout: str) -> None:
    """What was read ahead, what is held in memory and what is read for a batch are the same."""
    source = source_of(path)
    first, last = (TrajectoryDataset(path, cache_images_gib=size) for size in (2.0, 0.0))
    everything = range(len(first))
    batches = [dataset.__getitems__(everything).batch for dataset in (first, last)]
    for key in source.observations:
        parts = [
            source.read(e, key.name, 0, source.episodes[e].length)
            for e in range(len(source.episodes))
        ]
        values = np.concatenate(parts)
        if key.kind == "image":
            values = values.transpose(0, 3, 1, 2)
        for batch in batches:
            found = batch["observations"][key.name].numpy()
            np.testing.assert_array_equal(found, values.astype(found.dtype))
    assert expected_path.exists() and layout


def test_what_robomimic_says_of_its_episodes() -> None:
    source = source_of(OURS / "robomimic/tiny_image.hdf5")
    assert (source.env, source.fps) == ("Lift", 20.0)
    keys = {e.name: e.filter_keys for e in source.episodes}
    assert keys == {
        "demo_0": {"train"}, "demo_1": {"valid"}, "demo_2": {"train"}, "demo_10": {"train"}
    }  # fmt: skip
    dataset = TrajectoryDataset(OURS / "robomimic/tiny_image.hdf5", filter_key="valid")
    assert dataset.episodes == ("demo_1",)


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({}, None), ({"fps": 50.0}, 50.0), ({"control_hz": 20.0}, 20.0),
        ({"fps": 50.0, "control_hz": 20.0}, 50.0), ({"fps": 0.0}, None), ({"fps": math.nan}, None),
    ],
)  # fmt: skip
def test_timesteps_per_second_of_a_recording(
    tmp_path: Path, rates: dict[str, float], expected: float | None
) -> None:
    """`simscale record` says what the environment calls the rate of its control."""
    with EpisodeWriter(tmp_path / "file.h5", metadata=rates) as writer:
        writer.write({"qpos": np.zeros((3, 2))}, np.zeros((3, 1)), np.zeros(3))
    assert HDF5Source(tmp_path / "file.h5").fps == expected


def test_other_actions_of_an_episode() -> None:
    path = OURS / "robomimic/tiny_image.hdf5"
    dataset = TrajectoryDataset(path, action_key="action_dict/rel_pos", obs_keys=["robot0_eef_pos"])
    assert dataset.describe().action_dim == 3
    source = HDF5Source(path, action_key="action_dict/gripper")
    assert source.actions.shape == (1,) and source.read(1, "actions", 0, 4).shape == (4, 1)


def test_what_follows_the_last_end_is_told() -> None:
    with pytest.warns(UserWarning, match="the last 5 of 12 timesteps follow the end") as caught:
        TrajectoryDataset(OURS / "d4rl/halfcheetah_tiny.hdf5")
    assert len(caught) == 1


def test_one_file_of_a_folder() -> None:
    dataset = TrajectoryDataset(OURS / "aloha/real/episode_10.hdf5")
    assert dataset.episodes == ("episode_10",)


# Windows as other loaders cut them.


def reference(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((OURS / "reference_windows.json").read_text())[name]
    return found


@pytest.mark.parametrize("number", range(5))
def test_windows_as_robomimic_cuts_them(number: int) -> None:
    case = reference("robomimic")["cases"][number]
    stack, steps, pads = case["frame_stack"], case["seq_length"], case["pad_seq_length"]
    dataset = TrajectoryDataset(
        OURS / "robomimic/tiny_image.hdf5",
        seq_len=stack - 1 + steps,
        obs_len=stack if pads else None,
        pad=pads,
        filter_key=case["filter"],
    )
    assert list(dataset.episodes) == case["demos"]
    assert len(dataset) == case["len"]
    for sample, item in zip((dataset[i] for i in range(len(dataset))), case["items"], strict=True):
        actions = sample["actions"].reshape(-1, 7)[:, 0].numpy()
        np.testing.assert_allclose(actions, item["actions0"], atol=1e-6)
        seen = sample["observations"]["robot0_eef_pos"].reshape(-1, 3)[:, 0].numpy()
        np.testing.assert_allclose(seen, item["eef0"][: len(seen)], atol=1e-6)
        if pads:
            assert sample["is_pad"].reshape(-1).tolist() == [not real for real in item["mask"]]


@pytest.mark.parametrize("kind", ["sim", "real"])
def test_windows_as_act_cuts_them(kind: str) -> None:
    """ACT fills up with zeros where we repeat the edge, and shifts real actions by a step."""
    dataset = TrajectoryDataset(
        OURS / f"aloha/{kind}", seq_len=5, obs_len=1, pad=True, episodes=["episode_2"]
    )
    for item in reference("act")[kind]:
        here = dataset[item["start"]]
        top = here["observations"]["images/top"]
        np.testing.assert_allclose(here["observations"]["qpos"][0], item["qpos0"], atol=1e-5)
        np.testing.assert_allclose(top.mean(), item["image_mean"], atol=1e-6)
        shifted = dataset[max(0, item["start"] - 1)] if kind == "real" else here
        assert shifted["is_pad"].tolist() == item["is_pad"]
        actions = shifted["actions"][:, 0].masked_fill(shifted["is_pad"], 0)
        np.testing.assert_allclose(actions, item["action0"], atol=1e-6)
