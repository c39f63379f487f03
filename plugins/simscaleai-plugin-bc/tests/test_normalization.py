"""Normalisation: a pair of inverses that travels with the policy."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from simscaleai_plugin_bc.blocks.normalization import (
    NEAR_CONSTANT_STD,
    Normalizer,
    joined_statistics,
)

from simscaleai_core.contracts import Statistics
from simscaleai_core.errors import DataError

SMALL = st.floats(-100, 100, width=32)


@given(
    rows=st.lists(st.tuples(SMALL, st.floats(0.125, 100, width=32), SMALL), min_size=1, max_size=5)
)
def test_inverse_undoes_forward(rows: list[tuple[float, float, float]]) -> None:
    mean, std, x = (list(column) for column in zip(*rows, strict=True))
    normalizer = Normalizer(len(rows))
    normalizer.fit(mean=mean, std=std)
    value = torch.tensor([x])
    torch.testing.assert_close(normalizer.inverse(normalizer(value)), value, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(normalizer(normalizer.inverse(value)), value, atol=2e-2, rtol=1e-3)


def test_data_becomes_zero_mean_unit_deviation() -> None:
    data = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * 4 + 7
    normalizer = Normalizer(3)
    std = data.std(0, correction=0)
    normalizer.fit(mean=data.mean(0).tolist(), std=std.tolist())
    out = normalizer(data.view(5, 100, 3)).view(-1, 3)
    torch.testing.assert_close(out.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.std(0, correction=0), torch.ones(3), atol=1e-5, rtol=0)


def test_it_is_the_identity_until_it_is_fitted() -> None:
    normalizer = Normalizer(2)
    x = torch.randn(4, 2)
    assert torch.equal(normalizer(x), x)
    assert torch.equal(normalizer.inverse(x), x)
    assert not normalizer.fitted


def test_near_constant_dimensions_are_named_and_only_centred() -> None:
    normalizer = Normalizer(3)
    with pytest.warns(UserWarning, match=r"near-constant.*: pos\[1\], gripper\[0\]$"):
        normalizer.fit(
            mean=[1.0, 2.0, 3.0],
            std=[1.0, 0.0, NEAR_CONSTANT_STD / 2],
            names=["pos[0]", "pos[1]", "gripper[0]"],
        )
    out = normalizer(torch.tensor([1.0, 2.5, 3.001]))
    torch.testing.assert_close(out, torch.tensor([0.0, 0.5, 0.001]), atol=1e-6, rtol=0)


def test_at_the_limit_a_dimension_is_scaled() -> None:
    normalizer = Normalizer(1)
    normalizer.fit(mean=[0.0], std=[NEAR_CONSTANT_STD])
    assert float(normalizer.scale) == pytest.approx(NEAR_CONSTANT_STD)


@pytest.mark.parametrize(("mean", "std"), [([1.0], [1.0]), ([1.0, 1.0], [1.0])])
def test_statistics_of_another_size_are_refused(mean: list[float], std: list[float]) -> None:
    with pytest.raises(DataError, match="expected 2 dimensions"):
        Normalizer(2).fit(mean=mean, std=std)


def test_statistics_are_saved_with_the_weights() -> None:
    first, second = Normalizer(2), Normalizer(2)
    first.fit(mean=[1.0, 2.0], std=[3.0, 4.0])
    second.load_state_dict(first.state_dict())
    assert second.fitted
    x = torch.randn(3, 2)
    assert torch.equal(first(x), second(x))
    assert not list(first.parameters())


def test_joined_statistics_keep_the_order_of_keys() -> None:
    def stats(*mean: float) -> Statistics:
        return Statistics(mean=mean, std=tuple(m + 1 for m in mean), low=mean, high=mean)

    mean, std, names = joined_statistics({"b": stats(1.0), "a": stats(2.0, 3.0)}, ["a", "b"])
    assert mean == [2.0, 3.0, 1.0]
    assert std == [3.0, 4.0, 2.0]
    assert names == ["a[0]", "a[1]", "b[0]"]
