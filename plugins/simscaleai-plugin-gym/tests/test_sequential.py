"""Tests that may be looked at after every episode: their errors, counted over all outcomes."""

from __future__ import annotations

from itertools import product

import pytest
from simscaleai_plugin_gym.evaluate.intervals import wilson
from simscaleai_plugin_gym.evaluate.sequential import (
    PairedTest,
    RateTest,
    difference_sequence,
    rate_sequence,
)

from simscaleai_core.errors import ConfigError


@pytest.mark.parametrize(("rate", "alpha"), [(0.5, 0.2), (0.8, 0.05), (0.95, 0.05)])
def test_a_rate_at_the_threshold_is_missed_at_most_as_often_as_said(
    rate: float, alpha: float
) -> None:
    chances = {"met": 0.0, "missed": 0.0}
    for outcome in product((0, 1), repeat=10):
        test = RateTest(rate, ceiling=10, alpha=alpha)
        for n in range(1, 11):
            decision = test.look(sum(outcome[:n]), n)
        if decision is not None:
            chances[decision] += rate ** sum(outcome) * (1 - rate) ** (10 - sum(outcome))
    assert max(chances.values()) <= alpha
    assert sum(chances.values()) > 0


def test_equal_policies_are_told_apart_at_most_as_often_as_said() -> None:
    wrong, alpha = 0.0, 0.2
    for outcome in product((-1, 0, 1), repeat=8):
        test, probability = PairedTest(ceiling=8, alpha=alpha), 1.0
        for n in range(1, 9):
            decision = test.look(outcome[:n].count(-1), outcome[:n].count(1), n)
            probability *= 0.4 if outcome[n - 1] == 0 else 0.3
        wrong += probability * (decision is not None)
    assert 0 < wrong <= alpha


def test_what_is_clear_is_decided_early_and_stays_decided() -> None:
    rate, pairs = RateTest(0.5, ceiling=200), PairedTest(ceiling=200)
    rates = [rate.look(n, n) for n in range(1, 201)]
    better = [pairs.look(n, 0, n) for n in range(1, 201)]
    assert rates.index("met") < 15
    assert better.index("first") < 20
    assert set(rates) == {None, "met"}
    assert set(better) == {None, "first"}
    assert RateTest(0.95, ceiling=200).look(80, 100) == "missed"


def test_a_near_tie_is_undecided_at_the_ceiling() -> None:
    test = PairedTest(ceiling=100)
    assert [test.look(n // 4, (n + 2) // 4, n) for n in range(1, 101)][-1] is None


def test_looking_seldom_is_allowed() -> None:
    test = PairedTest(ceiling=96)
    assert test.look(16, 0, 32) == "first"


@pytest.mark.parametrize("rate", [0.5, 0.9])
def test_the_true_rate_leaves_its_sequence_at_most_as_often_as_said(rate: float) -> None:
    outside = 0.0
    for outcome in product((0, 1), repeat=10):
        bounds = [rate_sequence(sum(outcome[:n]), n, alpha=0.3) for n in range(1, 11)]
        if any(not low <= rate <= high for low, high in bounds):
            outside += rate ** sum(outcome) * (1 - rate) ** (10 - sum(outcome))
    assert outside <= 0.3


def test_the_true_difference_leaves_its_sequence_at_most_as_often_as_said() -> None:
    outside = 0.0
    for outcome in product((-1.0, 0.0, 1.0), repeat=6):
        if any(not low <= 0 <= high for low, high in difference_sequence(outcome, alpha=0.3)):
            outside += 0.5 ** outcome.count(0.0) * 0.25 ** (6 - outcome.count(0.0))
    assert outside <= 0.3


def test_sequences_are_wider_than_one_interval_and_shrink() -> None:
    low, high = rate_sequence(900, 1000)
    narrow = wilson(900, 1000)
    assert low < narrow[0] < narrow[1] < high < low + 0.07
    assert rate_sequence(0, 0) == (0.0, 1.0)
    found = difference_sequence([0.0, 1.0] * 200)
    assert found[0] == (-1.0, 1.0)
    assert 0.3 < found[-1][0] < 0.5 < found[-1][1] < 0.7


@pytest.mark.parametrize(
    "make",
    [
        lambda: RateTest(1.0, 10),
        lambda: RateTest(0.5, 0),
        lambda: PairedTest(10, alpha=0.0),
        lambda: rate_sequence(3, 2),
        lambda: difference_sequence([2.0]),
    ],
)
def test_what_is_out_of_range_is_refused(make: object) -> None:
    with pytest.raises(ConfigError, match="expected"):
        make()  # type: ignore[operator]
