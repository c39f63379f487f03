"""What a dataset says of itself, and how it is split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from simscaleai_plugin_hdf5.dataset import TrajectoryDataset

from simscaleai_core.errors import ConfigError, DataError

Write = Callable[..., Path]


def rows_of(episodes: Any, names: Any, key: str) -> Any:
    parts = [
        episodes[name]["actions"] if key == "actions" else episodes[name]["observations"][key]
        for name in names
    ]
    return np.concatenate(parts).astype(np.float64)


def check_statistics(dataset: TrajectoryDataset, episodes: Any) -> None:
    statistics = dataset.describe().statistics
    assert list(statistics) == ["ee_pos", "joint_pos", "actions"]
    for key, found in statistics.items():
        rows = rows_of(episodes, dataset.episodes, key)
        np.testing.assert_allclose(found.mean, rows.mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(found.std, rows.std(axis=0), atol=1e-6)
        np.testing.assert_allclose(found.low, rows.min(axis=0), atol=1e-6)
        np.testing.assert_allclose(found.high, rows.max(axis=0), atol=1e-6)


@pytest.mark.parametrize("seq_len", [1, 2])
def test_statistics_equal_brute_force(write_file: Write, episodes: Any, seq_len: int) -> None:
    dataset = TrajectoryDataset(write_file(episodes), seq_len=seq_len)
    check_statistics(dataset, episodes)
    for part in dataset.split(0.4, seed=3):
        check_statistics(part, episodes)


def test_describe(write_file: Write, episodes: Any) -> None:
    path = write_file(episodes)
    with h5py.File(path, "a") as file:
        file.attrs["env_name"] = "reach"
    spec = TrajectoryDataset(path, seq_len=2, include_language=True).describe()
    assert spec.observations == {"ee_pos": (3,), "image": (3, 6, 5), "joint_pos": (7,)}
    assert (spec.action_dim, spec.seq_len, spec.language, spec.env) == (4, 2, True, "reach")
    assert (spec.num_episodes, spec.num_samples) == (5, 22)
    assert (spec.state_keys, spec.image_keys) == (("ee_pos", "joint_pos"), ("image",))


def test_the_fingerprint_follows_the_data(write_file: Write, episodes: Any) -> None:
    first = TrajectoryDataset(write_file(episodes)).describe().fingerprint
    again = TrajectoryDataset(write_file(episodes, "copy.h5", chunks=True)).describe().fingerprint
    assert first == again
    episodes["episode_7"]["actions"][2, 1] += 1e-3
    assert TrajectoryDataset(write_file(episodes)).describe().fingerprint != first


@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.5, 0.99])
def test_split_is_by_episode(write_file: Write, episodes: Any, fraction: float) -> None:
    dataset = TrajectoryDataset(write_file(episodes), seq_len=2)
    train, held_out = dataset.split(fraction, seed=0)
    assert type(train) is type(held_out) is TrajectoryDataset
    assert set(train.episodes).isdisjoint(held_out.episodes)
    assert {*train.episodes, *held_out.episodes} == set(dataset.episodes)
    assert len(held_out.episodes) == min(max(round(5 * fraction), 1), 4)
    assert len(train) + len(held_out) == len(dataset)
    assert train.describe().fingerprint != held_out.describe().fingerprint
    for part in (train, held_out):
        name = part.episodes[0]
        expected = torch.tensor(episodes[name]["actions"][:2], dtype=torch.float32)
        assert torch.equal(part[0]["actions"], expected)
    assert dataset.split(fraction, seed=0)[1].episodes == held_out.episodes


def test_split_depends_on_the_seed(write_file: Write, episodes: Any) -> None:
    dataset = TrajectoryDataset(write_file(episodes))
    assert len({dataset.split(0.4, seed)[1].episodes for seed in range(20)}) > 3


def test_a_split_keeps_images_in_the_file(write_file: Write, episodes: Any) -> None:
    dataset = TrajectoryDataset(write_file(episodes), cache_images_gib=0)
    train, _ = dataset.split(0.4, seed=1)
    image = episodes[train.episodes[-1]]["observations"]["image"][-1]
    expected = image.transpose(2, 0, 1) / np.float32(255)
    np.testing.assert_array_equal(train[-1]["observations"]["image"].numpy(), expected)


def test_what_cannot_be_split(write_file: Write, make_episode: Any) -> None:
    dataset = TrajectoryDataset(write_file({"episode_0": make_episode(3)}))
    with pytest.raises(DataError, match="expected at least 2 episodes, got 1"):
        dataset.split(0.5, seed=0)
    with pytest.raises(ConfigError, match="fraction: expected a number between 0 and 1, got 1"):
        dataset.split(1, seed=0)


def test_the_distinct_instructions_are_told(write_file, episodes) -> None:
    path = write_file(episodes)
    spec = TrajectoryDataset(path, include_language=True).describe()
    assert spec.instructions == ("", "push the cube", "reach the caf\u00e9")
    assert TrajectoryDataset(path).describe().instructions == ()
    train, held_out = TrajectoryDataset(path, include_language=True).split(0.2, seed=0)
    parts = train.describe().instructions, held_out.describe().instructions
    assert set(parts[0]) | set(parts[1]) == set(spec.instructions)
