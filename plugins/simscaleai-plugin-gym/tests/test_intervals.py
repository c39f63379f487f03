import numpy as np
import pytest
from simscaleai_plugin_gym import wilson
from simscaleai_plugin_gym.evaluate.intervals import mcnemar_exact, paired_difference, paired_mean

from simscaleai_core.errors import ConfigError


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Published tables and R's prop.test(correct=FALSE), four decimals.
        (0, 10, 0.0, 0.2775),
        (1, 10, 0.0179, 0.4042),
        (5, 10, 0.2366, 0.7634),
        (10, 10, 0.7225, 1.0),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I
        (15, 148, 0.0624, 0.1605),
        (100, 100, 0.9630, 1.0),
    ],
)
def test_known_intervals(successes, n, low, high):
    assert wilson(successes, n) == pytest.approx((low, high), abs=1e-4)


def test_the_ends_are_exact():
    assert wilson(0, 500)[0] == 0.0
    assert wilson(500, 500)[1] == 1.0


def test_more_episodes_and_less_confidence_narrow_it():
    def width(bounds):
        return bounds[1] - bounds[0]

    assert width(wilson(80, 100)) < width(wilson(8, 10))
    assert width(wilson(8, 10, z=1.0)) < width(wilson(8, 10))


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_numbers_that_make_no_rate_are_refused(successes, n):
    with pytest.raises(ConfigError, match="expected 0 to n with n at least 1"):
        wilson(successes, n)


@pytest.mark.parametrize(
    ("pairs", "low", "high"),
    [
        # (both, only first, only second, neither): first rate minus second in the sources.
        ((36, 12, 2, 0), 0.0569, 0.3404),  # Newcombe 1998 (paired), table II, method 10
        ((1, 1, 7, 12), -0.507, -0.026),  # Fagerland, Lydersen and Laake 2014, table VII
        ((20, 12, 2, 16), 0.0562, 0.3292),  # Armitage and Berry 1994, as StatsDirect gives it
    ],
)
def test_known_intervals_of_paired_differences(pairs, low, high):
    both, only_first, only_second, neither = pairs
    found = paired_difference(both, only_first, only_second, neither)
    assert found == pytest.approx((-high, -low), abs=5e-4 if low < 0 else 6e-5)
    mirrored = paired_difference(both, only_second, only_first, neither)
    assert mirrored == pytest.approx((low, high), abs=5e-4 if low < 0 else 6e-5)


@pytest.mark.parametrize("pairs", [(50, 0, 0, 0), (0, 0, 0, 50), (25, 0, 0, 25)])
def test_policies_that_never_differ_still_leave_doubt(pairs):
    low, high = paired_difference(*pairs)
    assert low == pytest.approx(-high) and high > 0.0


def test_extremes_stay_within_what_is_possible():
    low, high = paired_difference(0, 0, 50, 0)
    assert 0.85 < low < high == 1.0


@pytest.mark.parametrize("pairs", [(0, 0, 0, 0), (5, -1, 2, 3)])
def test_pairs_that_are_none_are_refused(pairs):
    with pytest.raises(ConfigError, match="pairs: expected at least one and none negative"):
        paired_difference(*pairs)


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [
        (12, 2, 0.0129),  # Armitage and Berry 1994, as StatsDirect gives it
        (1, 7, 0.0703),  # Fagerland, Lydersen and Laake 2013, table 7
        (0, 0, 1.0),
        (3, 3, 1.0),
        (0, 6, 0.03125),
    ],
)
def test_known_p_values(only_first, only_second, p):
    assert mcnemar_exact(only_first, only_second) == pytest.approx(p, abs=5e-5)
    assert mcnemar_exact(only_second, only_first) == mcnemar_exact(only_first, only_second)


def test_negative_counts_have_no_p_value():
    with pytest.raises(ConfigError, match="expected none negative, got -1 and 2"):
        mcnemar_exact(-1, 2)


def test_the_bootstrap_is_close_to_the_normal_interval_and_repeats():
    differences = np.random.default_rng(3).normal(0.5, 2.0, 400)
    low, high = paired_mean(differences.tolist())
    spread = 1.96 * differences.std(ddof=1) / 20
    expected = (differences.mean() - spread, differences.mean() + spread)
    assert (low, high) == pytest.approx(expected, abs=0.02)
    assert (low, high) == paired_mean(differences.tolist())
    assert paired_mean([1.5, 1.5]) == (1.5, 1.5)


def test_no_differences_have_no_mean():
    with pytest.raises(ConfigError, match="expected at least one episode"):
        paired_mean([])
