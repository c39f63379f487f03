"""Windows that reach over the edges of an episode equal a brute-force construction."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from simscaleai_plugin_hdf5.dataset import TrajectoryDataset

from simscaleai_core.errors import ConfigError

Write = Callable[..., Path]


def padded(values: np.ndarray, current: int, lead: int, timesteps: int) -> np.ndarray:
    wanted = np.arange(current - lead, current - lead + timesteps)
    rows = np.clip(wanted, 0, len(values) - 1)
    part = np.asarray(values[rows], dtype=np.float32)
    if values.dtype == np.uint8:
        part = part.transpose(0, 3, 1, 2) / np.float32(255)
    return part[0] if timesteps == 1 else part


@pytest.mark.parametrize("cache_images_gib", [0, 2.0])
@pytest.mark.parametrize(
    ("seq_len", "obs_len"), [(1, None), (1, 1), (4, None), (4, 1), (4, 2), (8, 1), (12, 12)]
)
def test_every_timestep_has_a_sample_that_equals_the_slice(
    write_file: Write, episodes: Any, seq_len: int, obs_len: int | None, cache_images_gib: float
) -> None:
    dataset = TrajectoryDataset(
        write_file(episodes),
        seq_len=seq_len,
        obs_len=obs_len,
        pad=True,
        include_language=True,
        cache_images_gib=cache_images_gib,
    )
    lead = 0 if obs_len is None else obs_len - 1
    timesteps = [
        (content, t) for content in episodes.values() for t in range(len(content["actions"]))
    ]
    assert len(dataset) == len(timesteps)
    batch = dataset.__getitems__(range(len(dataset)))
    for index, (content, t) in enumerate(timesteps):
        for sample in (dataset[index], batch[index]):
            for key, values in content["observations"].items():
                found = sample["observations"][key].numpy()
                expected = padded(values, t, lead, seq_len if obs_len is None else obs_len)
                np.testing.assert_array_equal(found, expected)
            expected = padded(content["actions"], t, lead, seq_len)
            np.testing.assert_array_equal(sample["actions"].numpy(), expected)
            wanted = np.arange(t - lead, t - lead + seq_len)
            outside = (wanted < 0) | (wanted >= len(content["actions"]))
            assert sample["is_pad"].tolist() == (outside[0] if seq_len == 1 else outside.tolist())
            text = content.get("language", "")
            assert sample["language"] == (text.decode() if isinstance(text, bytes) else text)


@pytest.mark.parametrize("obs_len", [1, 2])
def test_shorter_observations_within_the_episode(
    write_file: Write, episodes: Any, obs_len: int
) -> None:
    path = write_file(episodes)
    whole = TrajectoryDataset(path, seq_len=3)
    short = TrajectoryDataset(path, seq_len=3, obs_len=obs_len)
    assert len(short) == len(whole)
    for index in range(len(whole)):
        for key, values in whole[index]["observations"].items():
            expected = values[0] if obs_len == 1 else values[:obs_len]
            assert torch.equal(short[index]["observations"][key], expected)
        assert torch.equal(short[index]["actions"], whole[index]["actions"])
        assert "is_pad" not in short[index]


def test_no_episode_is_too_short_for_padded_windows(write_file: Write, make_episode: Any) -> None:
    path = write_file({"episode_0": make_episode(2), "episode_1": make_episode(30)})
    dataset = TrajectoryDataset(path, seq_len=16, obs_len=1, pad=True)
    assert len(dataset) == 32 and dataset.episodes == ("episode_0", "episode_1")
    spec = dataset.describe()
    assert (spec.seq_len, spec.obs_len, spec.pad) == (16, 1, True)
    assert TrajectoryDataset(path, seq_len=2).describe().obs_len == 2


def test_splits_and_copies_stay_padded(write_file: Write, episodes: Any) -> None:
    dataset = TrajectoryDataset(write_file(episodes), seq_len=4, obs_len=1, pad=True)
    train, held_out = dataset.split(0.4, seed=1)
    assert len(train) + len(held_out) == len(dataset)
    again = pickle.loads(pickle.dumps(train))
    ours, theirs = train.__getitems__(range(len(train))), again.__getitems__(range(len(train)))
    for position in range(len(train)):
        assert torch.equal(ours[position]["actions"], theirs[position]["actions"])
        assert torch.equal(ours[position]["is_pad"], theirs[position]["is_pad"])


@pytest.mark.parametrize("obs_len", [0, 4, 1.5])
def test_obs_len_out_of_range(write_file: Write, episodes: Any, obs_len: Any) -> None:
    with pytest.raises(ConfigError, match="obs_len: expected"):
        TrajectoryDataset(write_file(episodes), seq_len=3, obs_len=obs_len)
