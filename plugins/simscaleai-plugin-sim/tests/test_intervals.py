import pytest
from simscaleai_plugin_sim import wilson

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
