"""Statistics of the numbers of episodes: exact, of those that are chosen, and of mixtures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from attrs import evolve
from torch.utils.data import DataLoader

from simscaleai_core.contracts import DataSpec, Statistics
from simscaleai_core.data import statistics
from simscaleai_core.data.feed import describe
from simscaleai_core.data.mixture import Mixture
from simscaleai_core.data.statistics import pooled
from simscaleai_core.data.windowed import WindowedDataset
from simscaleai_core.run.drift import about_data

sys.path.insert(0, str(Path(__file__).parent))

from sources import CountingSource


def opened(num_episodes: int = 5, name: str = "a", **options: Any) -> WindowedDataset:
    source = CountingSource(path=Path(name), num_episodes=num_episodes)
    return WindowedDataset(source, **{"obs_keys": ["q"], **options})


@pytest.mark.parametrize("block", [2**22, 16])
def test_quantiles_are_those_of_all_chosen_timesteps(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "_BLOCK_NUMBERS", block)  # also a column at a time
    data = opened(episodes=[0, 2, 4])
    rows = torch.stack([data[i]["observations"]["q"] for i in range(len(data))]).numpy()
    found = data.describe().statistics["q"]
    wanted = np.quantile(rows.astype(np.float64), (0, 0.01, 0.99, 1), axis=0)
    for values, expected in zip((found.low, found.q01, found.q99, found.high), wanted, strict=True):
        np.testing.assert_allclose(values or (), expected, rtol=1e-6)


def test_the_numbers_are_those_of_all_samples_in_bounded_batches() -> None:
    data = opened(seq_len=4, obs_len=1, pad=True, obs_keys=["q", "image"], include_language=True)
    spec = data.describe()
    assert spec.numbers is not None
    batches = list(spec.numbers())
    assert set(batches[0]) == {"observations", "actions", "is_pad"}
    assert list(batches[0]["observations"]) == ["q"]
    whole = data.__getitems__(range(len(data))).batch  # type: ignore[attr-defined]
    for key in ("actions", "is_pad"):
        assert torch.equal(torch.cat([b[key] for b in batches]), whole[key])
    assert spec == evolve(spec, numbers=None)
    assert not {"numbers", "sources", "statistics"} & set(about_data(spec))
    assert opened(transform=dict).describe().numbers is None


def test_a_part_of_a_split_gives_its_own_numbers() -> None:
    kept, _ = opened().split(0.4, seed=0)
    spec = kept.describe()
    assert spec.numbers is not None
    assert sum(len(b["actions"]) for b in spec.numbers()) == len(kept) == spec.num_samples


def test_a_mixture_says_what_its_parts_say() -> None:
    parts = [opened(5, "a"), opened(2, "b")]
    spec = Mixture(parts, (0.75, 0.25)).describe()
    assert spec.numbers is None
    assert {name: share for name, (share, _) in spec.sources.items()} == {"a": 0.75, "b": 0.25}
    each = [part.describe().statistics["q"] for part in parts]
    assert [s.statistics["q"] for _, s in spec.sources.values()] == each
    found = spec.statistics["q"]
    assert found.q01 and found.q99
    assert found.q01 == tuple(min(s.q01[d] for s in each if s.q01) for d in range(len(found.q01)))
    assert found.q99 == tuple(max(s.q99[d] for s in each if s.q99) for d in range(len(found.q99)))


def test_quantiles_that_a_part_lacks_are_unknown() -> None:
    plain = Statistics(mean=(0.0,), std=(1.0,), low=(-1.0,), high=(1.0,))
    full = evolve(plain, q01=(-0.9,), q99=(0.9,))
    found = pooled([plain, full], (0.5, 0.5))
    assert (found.q01, found.q99, found.low) == (None, None, (-1.0,))


class Doubled:
    """A transform that says what it makes of the data."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, sample: dict[str, Any], key: int) -> dict[str, Any]:
        return {**sample, "actions": sample["actions"] * self.factor}

    def describe(self, data: DataSpec) -> DataSpec:
        actions = data.statistics["actions"]
        scaled = evolve(actions, std=tuple(self.factor * v for v in actions.std))
        return evolve(data, statistics={**data.statistics, "actions": scaled})


def test_numbers_that_a_transform_changes_are_not_offered() -> None:
    loader = DataLoader(opened())
    for factor, is_offered in ((1.0, True), (2.0, False)):
        spec = describe(loader, (("doubled", Doubled(factor)),))
        assert spec is not None and (spec.numbers is not None) == is_offered
