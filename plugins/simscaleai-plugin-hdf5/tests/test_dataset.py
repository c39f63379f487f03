"""Samples and batches equal brute-force slicing of the arrays that were written."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simscaleai_plugin_hdf5.dataset import TrajectoryDataset
from simscaleai_plugin_hdf5.options import HDF5Options

from simscaleai_core.contracts import Collated, DescribedDataset
from simscaleai_core.errors import ConfigError, DataError

Write = Callable[..., Path]


def brute_force(episodes: dict[str, Any], seq_len: int) -> list[dict[str, Any]]:
    samples = []
    for name in sorted(episodes, key=lambda n: int(n.rpartition("_")[2])):
        content = episodes[name]
        text = content.get("language", "")
        for start in range(len(content["actions"]) - seq_len + 1):
            window = slice(start, start + seq_len)
            observations = {}
            for key, values in sorted(content["observations"].items()):
                part = np.asarray(values[window], dtype=np.float32)
                if values.dtype == np.uint8:
                    part = part.transpose(0, 3, 1, 2) / np.float32(255)
                observations[key] = part[0] if seq_len == 1 else part
            actions = np.asarray(content["actions"][window], dtype=np.float32)
            samples.append(
                {
                    "observations": observations,
                    "actions": actions[0] if seq_len == 1 else actions,
                    "language": text.decode() if isinstance(text, bytes) else text,
                }
            )
    return samples


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert list(found["observations"]) == list(expected["observations"])
    for key, values in expected["observations"].items():
        np.testing.assert_array_equal(found["observations"][key].numpy(), values)
        assert found["observations"][key].dtype == torch.float32
    np.testing.assert_array_equal(found["actions"].numpy(), expected["actions"])
    if "language" in found:
        assert found["language"] == expected["language"]


@pytest.mark.parametrize("cache_images_gib", [0, 2.0])
@pytest.mark.parametrize("chunks", [None, True, (1, 6, 5, 3), (2, 3, 5, 1)])
@pytest.mark.parametrize("seq_len", [1, 2, 3])
def test_samples_equal_slices(
    write_file: Write, episodes: Any, cache_images_gib: float, chunks: Any, seq_len: int
) -> None:
    path = write_file(episodes)
    if chunks is not None:
        with h5py.File(path, "a") as file:
            for name, content in episodes.items():
                del file[f"{name}/observations/image"]
                file[name].create_dataset(
                    "observations/image",
                    data=content["observations"]["image"],
                    chunks=chunks,
                    compression="gzip",
                )
    dataset = TrajectoryDataset(
        path, seq_len=seq_len, include_language=True, cache_images_gib=cache_images_gib
    )
    expected = brute_force(episodes, seq_len)
    assert len(dataset) == len(expected)
    assert dataset.in_memory is (cache_images_gib > 0)
    for index, sample in enumerate(expected):
        assert_same(dataset[index], sample)
    order = [5, 0, 5, len(dataset) - 1, 6, 3, -1]
    batch = dataset.__getitems__(order)
    assert isinstance(batch, Collated)
    for position, index in enumerate(order):
        assert_same(batch[position], expected[index])


lengths_and_more = st.tuples(
    st.lists(st.integers(1, 7), min_size=1, max_size=5),
    st.integers(1, 7),
    st.lists(st.integers(-40, 40), min_size=1, max_size=12),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths_and_more)
def test_windows_equal_brute_force(
    write_file: Write, make_episode: Any, drawn: tuple[list[int], int, list[int]]
) -> None:
    lengths, seq_len, indices = drawn
    made = {f"episode_{3 * i}": make_episode(n, seed=i) for i, n in enumerate(lengths)}
    path = write_file(made)
    expected = brute_force(made, seq_len)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*shorter than seq_len")
        if not expected:
            with pytest.raises(DataError, match="no episode is long enough"):
                TrajectoryDataset(path, seq_len=seq_len)
            return
        dataset = TrajectoryDataset(path, seq_len=seq_len)
    assert len(dataset) == len(expected)
    inside = [i for i in indices if -len(expected) <= i < len(expected)]
    batch = dataset.__getitems__(inside)
    for position, index in enumerate(inside):
        assert_same(batch[position], expected[index])
        assert_same(dataset[index], expected[index])
    for index in set(indices) - set(inside):
        with pytest.raises(IndexError, match=f"sample {index}: expected"):
            dataset[index]


def test_episodes_come_in_numeric_order(write_file: Write, make_episode: Any) -> None:
    names = ["episode_00010", "episode_2", "episode_00000", "episode_1"]
    path = write_file({name: make_episode(2) for name in names})
    ordered = ("episode_00000", "episode_1", "episode_2", "episode_00010")
    assert TrajectoryDataset(path).episodes == ordered


def test_short_episodes_are_skipped_with_one_warning(write_file: Write, episodes: Any) -> None:
    with pytest.warns(UserWarning, match=r"2 of 5 episodes are shorter than seq_len=5") as caught:
        dataset = TrajectoryDataset(write_file(episodes), seq_len=5)
    assert len(caught) == 1
    assert dataset.episodes == ("episode_0", "episode_2", "episode_10")
    assert dataset.describe().num_episodes == 3


def test_obs_keys_choose_and_order(write_file: Write, episodes: Any) -> None:
    dataset = TrajectoryDataset(write_file(episodes), obs_keys=["joint_pos", "ee_pos"])
    assert list(dataset[0]["observations"]) == ["joint_pos", "ee_pos"]
    assert list(dataset.describe().observations) == ["joint_pos", "ee_pos"]
    assert dataset.in_memory


def test_a_bad_key_that_is_not_asked_for_is_no_fault(write_file: Write, episodes: Any) -> None:
    episodes["episode_2"]["observations"]["note"] = np.array([b"x"] * 9)
    path = write_file(episodes)
    TrajectoryDataset(path, obs_keys=["joint_pos"])
    with pytest.raises(DataError, match="note"):
        TrajectoryDataset(path)


@pytest.mark.parametrize(
    ("dtype", "shape", "width"),
    [(">f8", (4, 2), (2,)), (">i2", (4,), (1,)), ("f2", (4, 2), (2,)), ("?", (4, 3), (3,)),
     ("u1", (4, 2), (2,)), ("f4", (4, 2, 2), (4,)), ("f4", (4, 3, 4, 4), (48,))],
)  # fmt: skip
def test_real_types_are_converted(
    write_file: Write, make_episode: Any, dtype: str, shape: Any, width: Any
) -> None:
    values = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    made = make_episode(4)
    made["observations"] = {"x": values}
    dataset = TrajectoryDataset(write_file({"episode_0": made}), seq_len=2)
    assert dataset.describe().observations == {"x": width}
    expected = values.astype(np.float32)[1:3].reshape(2, *width)
    np.testing.assert_array_equal(dataset[1]["observations"]["x"].numpy(), expected)


def test_transform_is_per_sample(write_file: Write, episodes: Any) -> None:
    def negate(sample: dict[str, Any]) -> dict[str, Any]:
        sample["actions"].neg_()
        return sample

    path = write_file(episodes)
    plain = TrajectoryDataset(path)
    dataset = TrajectoryDataset(path, transform=negate)
    assert not dataset.in_memory
    assert isinstance(dataset.__getitems__([0, 1]), list)
    for _ in range(2):
        assert torch.equal(dataset[3]["actions"], -plain[3]["actions"])
        assert torch.equal(dataset.__getitems__([1, 3])[1]["actions"], -plain[3]["actions"])


def test_changing_a_sample_does_not_change_the_data(write_file: Write, episodes: Any) -> None:
    dataset = TrajectoryDataset(write_file(episodes))
    before = dataset[2]["actions"].clone()
    sample = dataset[2]
    sample["actions"].zero_()
    sample["observations"]["image"].zero_()
    assert torch.equal(dataset[2]["actions"], before)
    assert dataset[2]["observations"]["image"].any()


def test_copies_and_pickles_serve_the_same(write_file: Write, episodes: Any) -> None:
    dataset = TrajectoryDataset(write_file(episodes), seq_len=3, cache_images_gib=0)
    dataset[0]
    for other in (copy.deepcopy(dataset), pickle.loads(pickle.dumps(dataset))):
        assert_same(other[4], brute_force(episodes, 3)[4])


def test_a_file_that_was_replaced_is_noticed(write_file: Write, episodes: Any) -> None:
    dataset = TrajectoryDataset(write_file(episodes), cache_images_gib=0)
    del episodes["episode_10"]
    write_file(episodes)
    with pytest.raises(DataError, match="the file has changed: expected"):
        dataset[0]


def test_damage_found_while_reading_names_the_episode(write_file: Write, episodes: Any) -> None:
    path = write_file(episodes, chunks=True, fletcher32=True)
    with h5py.File(path) as file:
        chunk = file["episode_2/observations/image"].id.get_chunk_info(0)
    raw = bytearray(path.read_bytes())
    raw[chunk.byte_offset + 3] ^= 1
    path.write_bytes(raw)
    dataset = TrajectoryDataset(path, cache_images_gib=0)
    with pytest.raises(DataError, match="field 'image' of episode_2: expected readable data"):
        dataset.__getitems__(range(len(dataset)))


@pytest.mark.parametrize(
    "options", [{"seq_len": 0}, {"seq_len": 2.0}, {"obs_keys": "image"}, {"obs_keys": []},
                {"cache_images_gib": -1}, {"cache_images_gib": float("nan")}]
)  # fmt: skip
def test_options_out_of_range(write_file: Write, episodes: Any, options: Any) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(options))}: expected"):
        TrajectoryDataset(write_file(episodes), **options)


def test_the_options_class_has_the_defaults_of_the_dataset() -> None:
    assert HDF5Options() == HDF5Options(
        seq_len=1, obs_keys=None, include_language=False, cache_images_gib=2.0
    )
    with pytest.raises(ValueError, match="seq_len: expected a whole number >= 1, got 0"):
        HDF5Options(seq_len=0)


def test_it_is_a_described_dataset(write_file: Write, episodes: Any) -> None:
    assert isinstance(TrajectoryDataset(write_file(episodes)), DescribedDataset)
