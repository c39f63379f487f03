"""Several datasets as one: their samples, their proportions, what they have in common."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Subset, TensorDataset

from simscaleai_core.builtin.samplers import Proportions
from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import DescribedDataset
from simscaleai_core.data.mixture import Batches, Mixture, mixed_order
from simscaleai_core.data.windowed import WindowedDataset
from simscaleai_core.errors import ConfigError, DataError

sys.path.insert(0, str(Path(__file__).parent))

from sources import CountingSource

SIZES = (30, 22, 9)  # the timesteps of 5, 4 and 2 episodes


def part(num_episodes: int, name: str, **options: Any) -> WindowedDataset:
    source = CountingSource(path=Path("data", name), num_episodes=num_episodes)
    return WindowedDataset(source, **{"obs_keys": ["image", "q"], **options})


def mixture(weights: tuple[float, ...] | None = None, **options: Any) -> Mixture:
    parts = [part(n, name, **options) for n, name in ((5, "a"), (4, "b"), (2, "c"))]
    return Mixture(parts, weights)


def test_samples_are_those_of_the_datasets_one_after_the_other() -> None:
    data = mixture(include_language=True)
    assert isinstance(data, DescribedDataset)
    assert (data.sizes, len(data)) == (SIZES, 61)
    batch = data.__getitems__([60, 0, 30, 1]).batch
    assert batch["source"] == ["c", "a", "b", "a"]
    for row, index in enumerate([60, 0, 30, 1]):
        sample = data[index]
        assert sample["source"] == batch["source"][row]
        assert sample["language"] == batch["language"][row]
        assert torch.equal(sample["actions"], batch["actions"][row])
        image = batch["observations"]["image"][row].float().div(255)
        assert torch.equal(sample["observations"]["image"], image)


@pytest.mark.parametrize("weights", [(0.7, 0.2, 0.1), (1.0, 1.0, 1.0), (0.01, 0.01, 0.98)])
def test_any_samples_in_a_row_are_in_proportion(weights: tuple[float, ...]) -> None:
    shares = [w / sum(weights) for w in weights]
    sizes = (3000, 500, 1500)
    order = mixed_order(sizes, shares, seed=3, epoch=2)
    owners = torch.bucketize(order, torch.tensor([3000, 3500]), right=True)
    assert len(order) == 5000
    for start in range(0, 5000, 250):
        counts = torch.bincount(owners[start : start + 250], minlength=3)
        assert all(abs(c - 250 * s) <= 1.01 for c, s in zip(counts.tolist(), shares, strict=True))


def test_no_sample_comes_again_before_all_have_come() -> None:
    sizes, shares = (40, 10), (0.5, 0.5)
    found = torch.cat([mixed_order(sizes, shares, 0, epoch) for epoch in range(8)])
    for low, high in ((0, 40), (40, 50)):
        mine = found[(found >= low) & (found < high)].tolist()
        assert len(mine) == 200
        for start in range(0, 200, high - low):
            assert len(set(mine[start : start + high - low])) == high - low
    assert not torch.equal(mixed_order(sizes, shares, 0, 0), mixed_order(sizes, shares, 1, 0))
    assert torch.equal(mixed_order(sizes, shares, 1, 5), mixed_order(sizes, shares, 1, 5))


def test_the_sampler_needs_several_datasets() -> None:
    sampler = Proportions(TrainConfig())
    order = sampler.order(mixture((0.5, 0.25, 0.25)), 0, 0)
    owners = Counter(torch.bucketize(order, torch.tensor([30, 52]), right=True).tolist())
    assert owners == {0: 31, 1: 15, 2: 15}
    with pytest.raises(ConfigError, match="sampler 'mixture': expected several datasets"):
        sampler.order(part(5, "a"), 0, 0)


def test_statistics_are_those_of_what_is_drawn() -> None:
    data = mixture()
    everything = torch.cat(
        [torch.stack([d[i]["actions"] for i in range(len(d))]) for d in data.datasets]
    )
    found = data.describe().statistics["actions"]
    assert found.mean == pytest.approx(everything.mean(0).tolist())
    assert found.std == pytest.approx(everything.std(0, correction=0).tolist())
    assert (found.low, found.high) == ((0, 0, 0), (87, 87, 87))
    weighted = mixture((1.0, 1e-9, 1e-9)).describe()
    assert weighted.statistics["actions"].mean == pytest.approx(
        part(5, "a").describe().statistics["actions"].mean
    )
    assert weighted.fingerprint != data.describe().fingerprint
    assert weighted.num_episodes == 11


def test_each_dataset_is_split_and_one_episode_is_kept() -> None:
    data = Mixture([part(5, "a"), part(1, "b")], (0.5, 0.5))
    kept, held = data.split(0.4, seed=0)
    assert [d.path.name for d in held.datasets] == ["a"]
    assert (kept.is_weighted, held.is_weighted) == (True, False)
    assert kept.describe().num_episodes == 4
    with pytest.raises(DataError, match="expected a dataset with at least 2 episodes"):
        Mixture([part(1, "a"), part(1, "b")]).split(0.4, seed=0)


def test_batches_of_an_evaluation_hold_one_dataset_each() -> None:
    data = mixture()
    batches = list(Batches(data, 8))
    assert sorted(i for batch in batches for i in batch) == list(range(61))
    assert len(Batches(data, 8)) == len(batches)
    assert all(len(set(data.__getitems__(batch).batch["source"])) == 1 for batch in batches)


def test_one_dataset_twice_has_two_names() -> None:
    data = Mixture([part(5, "a", filter_key=key) for key in ("train", "valid")], (0.2, 0.8))
    assert data.names == ("data/a", "data/a[1]")
    assert {row: data[row]["source"] for row in (0, -1)} == {0: "a", -1: "a[1]"}
    assert list(data.describe().sources) == ["a", "a[1]"]


def test_parts_of_datasets_describe_what_they_are_of() -> None:
    whole = part(5, "a")
    data = Mixture([Subset(whole, range(9)), Subset(part(4, "b"), range(3, 22))])
    assert data.sizes == (9, 19) and data.in_memory is whole.in_memory is True
    assert data.__getitems__([8, 9]).batch["source"] == ["0", "1"]
    with pytest.raises(ConfigError, match=r"1 cannot be part of a mixture: .* describe\(\)"):
        Mixture([whole, TensorDataset(torch.zeros(3))])


def test_datasets_that_do_not_fit_are_one_error_key_by_key() -> None:
    parts = [part(5, "a"), part(5, "b", obs_keys=["q"]), part(5, "c", seq_len=2)]
    with pytest.raises(DataError) as caught:
        Mixture(parts)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("3 datasets do not fit together: expected the same keys")
    shown = "[3, 8, 8] in data/a; none in data/b; [3, 8, 8] in data/c"
    assert f"  observation 'image': {shown}" in lines
    assert "  seq_len: 1 in data/a; 1 in data/b; 2 in data/c" in lines


def test_equal_seconds_fit_by_strides_of_their_own() -> None:
    seconds: dict[str, Any] = {"obs_keys": ["q"], "seq_seconds": 0.4}
    fast, slow = {**seconds, "fps": 10, "stride": 2}, {**seconds, "fps": 5}
    assert Mixture([part(5, "a", **fast), part(4, "b", **slow)]).describe().seq_len == 2
    with pytest.raises(DataError, match="seq_len: 4 in data/a; 2 in data/b"):
        Mixture([part(5, "a", **{**fast, "stride": 1}), part(4, "b", **slow)])


@pytest.mark.parametrize("weights", [(0.5,), (0.5, 0.5, 0.0), (0.5, 0.5, float("inf"))])
def test_weights_are_one_positive_number_for_each(weights: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="weights: expected 3 numbers above 0"):
        mixture(weights)
