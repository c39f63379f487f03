"""Where a policy succeeds: the quantities of the map are those that tell of success."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from simscaleai_plugin_gym.evaluate.condition_map import success_map

from simscaleai_core.errors import ConfigError


def _episodes(n: int = 200) -> list[dict[str, float]]:
    """Six quantities, one of them constant, one of two values, one a copy in another unit."""
    rng = np.random.default_rng(0)
    drawn = rng.uniform(-0.1, 0.1, (n, 3))
    return [
        {"light": 1.0, "x": x, "x_mm": 1000 * x, "y": y, "z": z, "side": float(i % 5 == 0)}
        for i, (x, y, z) in enumerate(drawn.tolist())
    ]


@pytest.mark.parametrize(
    ("fails", "expected"),
    [
        (lambda e: e["x"] > 0.03 and e["y"] > 0.0, {"x", "y"}),
        (lambda e: abs(e["y"]) > 0.06 and e["z"] < 0.03, {"y", "z"}),  # both ends of a range
        (lambda e: e["y"] * e["z"] > 0.001, {"y", "z"}),  # neither tells anything alone
        (lambda e: e["side"] > 0.5 and e["z"] < 0.0, {"side", "z"}),
    ],
    ids=["corner", "ends", "together", "two-values"],
)
def test_the_two_quantities_are_those_that_success_depends_on(
    fails: Callable[[dict[str, float]], bool], expected: set[str]
) -> None:
    episodes = _episodes()
    found = success_map(episodes, [not fails(each) for each in episodes])
    assert found is not None and found.p_value == 0.005
    assert {name.replace("x_mm", "x") for name in found.names} == expected
    assert found.num_varying == 5


def test_every_episode_is_counted_once_in_its_own_cell() -> None:
    episodes = _episodes()
    succeeded = [each["y"] < 0.02 for each in episodes]
    found = success_map(episodes, succeeded, names=("y", "side"), bins=4)
    assert found is not None and found.p_value is None
    assert found.counts.shape == (4, 2)  # a cell for each of few values
    assert found.counts.sum() == 200 and found.successes.sum() == sum(succeeded)
    assert found.labels(1) == ["0", "1"] and len(found.labels(0)) == 5
    low, high = found.edges[0][1], found.edges[0][2]
    inside = [e for e in episodes if low <= e["y"] < high and e["side"] == 1.0]
    assert found.counts[1, 1] == len(inside)
    assert found.successes[1, 1] == sum(e["y"] < 0.02 for e in inside)


def test_a_pattern_of_chance_is_called_one() -> None:
    """Success that depends on nothing rarely looks as if it did: the search is allowed for."""
    episodes = [{name: each[name] for name in ("x", "y", "z", "side")} for each in _episodes(60)]
    rng = np.random.default_rng(1)
    found = [success_map(episodes, (rng.random(60) < 0.8).tolist()) for _ in range(100)]
    values = [each.p_value for each in found if each is not None and each.p_value is not None]
    assert len(values) == 100
    assert 1 <= sum(value <= 0.1 for value in values) <= 19  # 10 expected; 3 standard deviations


def test_without_failures_the_first_two_that_vary_are_shown() -> None:
    found = success_map(_episodes(), [True] * 200)
    assert found is not None
    assert found.names == ("x", "x_mm") and found.p_value is None


def test_without_two_quantities_that_vary_there_is_no_map() -> None:
    assert success_map([], []) is None
    assert success_map([{}, {}], [True, False]) is None
    assert success_map([{"x": 0.0, "y": 1.0}, {"x": 1.0, "y": 1.0}], [True, False]) is None
    partly = [{"x": 0.0, "y": 1.0}, {"x": 1.0}, {"x": 2.0, "y": 3.0}]
    assert success_map(partly, [True, False, True]) is None
    endless = [{"x": 0.0, "y": 1.0}, {"x": 1.0, "y": float("nan")}]
    assert success_map(endless, [True, False]) is None


def test_what_does_not_fit_together_is_refused() -> None:
    episodes = _episodes(3)
    with pytest.raises(ConfigError, match="each of 2 episodes, got 3"):
        success_map(episodes, [True, False])
    with pytest.raises(ConfigError, match="got 'x' and 'mass'"):
        success_map(episodes, [True, False, True], names=("x", "mass"))
