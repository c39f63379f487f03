"""What failed episodes have in common, and which seeds may be asked."""

import json
from itertools import combinations

import numpy as np
import pytest
from simscaleai_plugin_gym.evaluate.commonalities import commonalities
from simscaleai_plugin_gym.evaluate.intervals import holm
from simscaleai_plugin_gym.evaluate.rank_test import mann_whitney
from simscaleai_plugin_gym.evaluate.selection import check_selection_seeds

from simscaleai_core.errors import ConfigError


@pytest.mark.parametrize(  # scipy 1.17, mannwhitneyu
    ("first", "second", "share", "p_value"),
    [
        ([0.3, 1.9, 2.2], [0.1, 0.2, 0.4, 0.5, 1.0, 1.5, 1.7], 16 / 21, 4 / 15),
        ([5.0], list(range(10, 29)), 0.0, 0.1),
        (
            [(7 * i) % 13 for i in range(11)],
            [(5 * i) % 9 for i in range(14)],
            100 / 154,
            0.21617442052361036,
        ),
    ],
)
def test_ranks_are_compared_as_in_scipy(first, second, share, p_value):
    assert mann_whitney(first, second) == pytest.approx((share, p_value), rel=1e-9)
    other, same = mann_whitney(second, first)
    assert (1 - other, same) == pytest.approx((share, p_value), rel=1e-9)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_it_is_exact_with_ties(size):
    values = np.array([1.0, 1, 2, 2, 3, 3, 3, 4])
    ranks = np.array([1.5, 1.5, 3.5, 3.5, 6, 6, 6, 8])
    sums = np.array([sum(chosen) for chosen in combinations(ranks, size)])
    for chosen in ([0, 1, 2, 3, 4], [3, 7, 6, 5, 0], [7, 6, 5, 4, 3]):
        first = chosen[:size]
        observed = ranks[first].sum()
        expected = min(1.0, 2 * min((sums <= observed).mean(), (sums >= observed).mean()))
        found = mann_whitney(values[first].tolist(), np.delete(values, first).tolist())
        assert found[1] == pytest.approx(expected, rel=1e-12)


def test_equal_values_say_nothing():
    assert mann_whitney([1.0] * 20, [1.0] * 30) == (0.5, 1.0)
    assert mann_whitney([1.0] * 2, [1.0] * 3) == (0.5, 1.0)


def test_p_values_are_corrected_for_their_number():
    assert holm([]) == []
    assert holm([0.04, 0.01, 0.03, 0.005]) == pytest.approx([0.06, 0.03, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1.0, 1.0]


def test_the_quantity_that_decides_is_found_among_many():
    rng = np.random.default_rng(0)
    conditions = [
        {f"q.{i}": float(v) for i, v in enumerate(rng.normal(size=30))} for _ in range(99)
    ]
    successes = [condition["q.7"] < 0.8 for condition in conditions]
    first, *others = commonalities(conditions, successes)
    assert first["name"] == "q.7" and first["failed_greater"] == 1.0
    assert first["median_failed"] > 0.8 > first["median_successful"]
    assert first["p_value_corrected"] < 1e-6
    assert len(others) == 29 and min(row["p_value_corrected"] for row in others) > 0.05
    json.dumps([first, *others])


def test_chance_is_seldom_taken_for_a_reason():
    rng = np.random.default_rng(0)
    found = {"p_value": 0, "p_value_corrected": 0}
    for _ in range(100):
        numbers = rng.normal(size=(30, 10))
        rows = commonalities(
            [{str(i): float(v) for i, v in enumerate(each)} for each in numbers],
            (rng.random(30) < 0.7).tolist(),
        )
        for key in found:
            found[key] += min(row[key] for row in rows) <= 0.05
    assert found["p_value"] > 25 and found["p_value_corrected"] <= 10


def test_only_what_varies_is_compared():
    conditions = [{"x": 1.0, "y": 2.0}, {"x": 1.0, "y": 3.0}, {"x": 1.0, "y": 1.0, "z": 4.0}]
    (row,) = commonalities(conditions, [True, False, True])
    assert row["name"] == "y" and row["median_failed"] == 3.0 and row["median_successful"] == 1.5
    assert commonalities(conditions, [True] * 3) == commonalities(conditions, [False] * 3) == []
    assert commonalities([], []) == []


def test_reporting_seeds_are_refused():
    check_selection_seeds(range(50_000, 50_200), checkpoint=None)
    check_selection_seeds([9_999, 20_000], checkpoint=None)
    with pytest.raises(ConfigError, match=r"none from 10000 to 19999.* got 10000\. .*--seed 50000"):
        check_selection_seeds(range(9_950, 10_150), checkpoint=None)


@pytest.mark.parametrize(
    "results",
    [
        {"seeds": [7, 8], "successes": [True, False]},
        {"seeds": [7, 8], "first": {"successes": [True, False]}, "second": {}},
        {"kind": "sweep", "seeds": [7, 8], "cells": [{"successes": [True, False]}]},
    ],
)
def test_seeds_that_a_report_has_used_are_refused(tmp_path, results):
    (tmp_path / "eval.json").write_text(json.dumps(results))
    check_selection_seeds([6, 9], checkpoint=tmp_path / "final.pt")
    with pytest.raises(ConfigError, match=r"none that a report has used, got 8 @ eval\.json\. Ch"):
        check_selection_seeds([9, 8], checkpoint=tmp_path / "final.pt")


@pytest.mark.parametrize(
    "text",
    ['{"seeds": [8]}', "[8]", "nothing", '{"seeds": [8], "successes": [true], "failures": {}}',
     '{"seeds": 8, "successes": [true]}', '{"seeds": [8], "cells": 3}', "\xff"],
)  # fmt: skip
def test_other_files_are_no_reports(tmp_path, text):
    (tmp_path / "other.json").write_bytes(text.encode("latin-1"))
    check_selection_seeds([8], checkpoint=tmp_path / "final.pt")
