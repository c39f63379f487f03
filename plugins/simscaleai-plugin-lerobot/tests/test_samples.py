"""A data set that lerobot wrote is read to its exact values, and its windows are lerobot's."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simscaleai_plugin_lerobot.dataset import LeRobotDataset
from simscaleai_plugin_lerobot.source import LeRobotSource

DATA = Path(__file__).parent / "data"
SAMPLE = DATA / "tiny_image"
EXPECTED = json.loads((DATA / "tiny_image.expected.json").read_text())


def digest_of(values: Any) -> str:
    described = f"{values.dtype.str}|{values.shape}|".encode()
    return hashlib.sha256(described + values.tobytes()).hexdigest()


@pytest.mark.parametrize("episode", range(3))
def test_every_array_is_what_was_written(episode: int) -> None:
    source, facts = LeRobotSource(SAMPLE), EXPECTED["episodes"][str(episode)]
    found = source.episodes[episode]
    assert (found.name, found.length) == (f"episode_{episode}", facts["length"])
    assert found.instructions == (facts["language"],)
    for key, wanted in {**facts["obs"], "actions": facts["actions"]}.items():
        values = source.read(episode, key, 0, found.length)
        assert (list(values.shape), values.dtype.str) == (wanted["shape"], wanted["dtype"])
        assert digest_of(values) == wanted["sha256"]


def test_what_lies_beside_the_numbers() -> None:
    source, item = LeRobotSource(SAMPLE), EXPECTED["reader_item_7"]
    assert (source.fps, source.actions.dimensions) == (10, ("dx", "dy", "dz", "grip"))
    episode, step = item["episode_index"], item["frame_index"]
    assert source.timestamps(episode)[step] == np.float32(item["timestamp"])
    assert source.rewards(episode)[step] == item["next.reward"]
    assert source.timestep_instructions(episode)[step] == item["task"]
    assert source.episodes[0].filter_keys == {"train"}
    stored = source.stored_statistics()
    assert set(stored) == {"observation.state", "actions"}
    assert stored["actions"].low == pytest.approx((-0.52, -0.42, -0.32, -0.22))


def test_windows_are_those_of_lerobot() -> None:
    """One observation before the current one and three actions after it, edges repeated."""
    reference = json.loads((DATA / "tiny_image.windows.json").read_text())
    assert reference["delta_timestamps"]["observation.state"] == [-0.1, 0.0]
    data = LeRobotDataset(SAMPLE, seq_len=5, obs_len=2, pad=True, include_language=True)
    assert len(data) == len(reference["items"])
    for index, item in enumerate(reference["items"]):
        sample = data[index]
        states = sample["observations"]["observation.state"][:, 0]
        assert states.tolist() == pytest.approx(item["state0"], abs=1e-6)
        # the window begins one timestep earlier than lerobot's actions
        assert sample["actions"][1:, 0].tolist() == pytest.approx(item["action0"], abs=1e-6)
        assert sample["is_pad"][1:].tolist() == item["action_is_pad"]
        assert bool(sample["is_pad"][0]) == item["state_is_pad"][0]
        assert sample["language"] == item["task"]
