"""How sure a success rate is, and the difference of two."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, sqrt
from typing import Any

import numpy as np

from simscaleai_core.errors import ConfigError

_AT_ONCE = 500
"""Bootstrap samples that are drawn at once, to save memory."""


def wilson(successes: float, n: float, z: float = 1.96) -> tuple[float, float]:
    """Return the Wilson score interval of a success rate.

    Unlike the normal approximation it stays within 0 to 1 and is sound at 0 and at n successes.

    Args:
        successes: Episodes that succeeded, 0 to `n`; no whole number where they are effective ones.
        n: Episodes in all, at least 1.
        z: Normal quantile; 1.96 gives 95% [unitless].

    Returns:
        Lower and upper bound of the success rate [fraction, 0 to 1].

    Raises:
        ConfigError: If there are no episodes, or the successes are not among them.

    Source:
        Wilson 1927 (J. Am. Stat. Assoc. 22(158)); Brown, Cai and DasGupta 2001 (Stat. Sci. 16(2)),
        eq. 4.

    Example:
        >>> [round(bound, 3) for bound in wilson(100, 100)]
        [0.963, 1.0]
    """
    if n < 1 or not 0 <= successes <= n:
        raise ConfigError(f"successes: expected 0 to n with n at least 1, got {successes} of {n}")
    rate = successes / n
    centre = rate + z * z / (2 * n)
    spread = z * sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At 0 and n the bound is exact; rounding would leave 0.9999999999999998.
    low = 0.0 if successes == 0 else (centre - spread) / scale
    high = 1.0 if successes == n else (centre + spread) / scale
    return low, high


def success_rate(successes: int, n: int) -> dict[str, Any]:
    """Return a success rate and its interval, as results have them.

    Args:
        successes: Episodes that succeeded, 0 to `n`.
        n: Episodes in all, at least 1.

    Returns:
        ``success_rate`` [fraction] and ``success_rate_ci95``, its Wilson interval [low, high].
    """
    return {"success_rate": successes / n, "success_rate_ci95": list(wilson(successes, n))}


def clustered_rate(successes: Sequence[bool], clusters: Sequence[int]) -> dict[str, Any]:
    """Return the success rate of runs that come in clusters, such as several of each episode.

    Runs of one episode are alike, so that they tell less than as many episodes. The interval is
    Wilson's for the number of independent runs that would tell as much: the runs, divided by how
    much larger the variance of the rate is than that of independent runs. That factor is held
    between 1 and the runs of the largest cluster, which it is where all runs end alike.

    Args:
        successes: Whether each run succeeded, at least one.
        clusters: Which cluster each belongs to.

    Returns:
        As `success_rate`, which this is if every cluster has one run.

    Source:
        Rao and Scott 1992 (Biometrics 48(2), 577-585), section 2, with Wilson's interval of the
        effective numbers (Korn and Graubard 1998, Survey Methodology 24(2)).

    Example:
        >>> one = clustered_rate([True] * 90 + [False] * 10, range(100))
        >>> three = clustered_rate([True] * 270 + [False] * 30, [k // 3 for k in range(300)])
        >>> one == three
        True
    """
    _, place = np.unique(np.asarray(clusters), return_inverse=True)
    sizes = np.bincount(place)
    wins = np.bincount(place, np.asarray(successes, dtype=np.float64))
    n, won = len(successes), int(wins.sum())
    effect, rate = float(sizes.max()), won / n
    if len(sizes) > 1 and 0 < won < n:
        spread = float(np.square(wins - sizes * rate).sum()) * len(sizes) / (len(sizes) - 1)
        effect = min(max(spread / (n * rate * (1 - rate)), 1.0), effect)
    return {"success_rate": rate, "success_rate_ci95": list(wilson(won / effect, n / effect))}


def paired_difference(
    both: int, only_first: int, only_second: int, neither: int, z: float = 1.96
) -> tuple[float, float]:
    """Return an interval of the difference of two success rates on the same episodes.

    It joins the Wilson intervals of the two rates and allows for their correlation; unlike the
    normal approximation it has a width where the two never differ.

    Args:
        both: Episodes in which both succeeded.
        only_first: Episodes in which only the first did.
        only_second: Episodes in which only the second did.
        neither: Episodes in which neither did.
        z: Normal quantile; 1.96 gives 95% [unitless].

    Returns:
        Lower and upper bound of the second rate minus the first [fraction, -1 to 1].

    Raises:
        ConfigError: If there are no episodes, or a number is negative.

    Source:
        Newcombe 1998 (Stat. Med. 17(22), 2635-2650), method 10.

    Example:
        >>> [round(bound, 3) for bound in paired_difference(1, 7, 1, 12)]
        [-0.507, -0.026]
    """
    n = both + only_first + only_second + neither
    if n < 1 or min(both, only_first, only_second, neither) < 0:
        raise ConfigError(
            f"pairs: expected at least one and none negative, got both {both}, only the first "
            f"{only_first}, only the second {only_second}, neither {neither}"
        )
    first, second = both + only_first, both + only_second
    low_1, high_1 = wilson(first, n, z)
    low_2, high_2 = wilson(second, n, z)
    rate_1, rate_2 = first / n, second / n
    phi = _correlation(both, only_first, only_second, neither)
    below = _joined(rate_2 - low_2, high_1 - rate_1, phi)
    above = _joined(high_2 - rate_2, rate_1 - low_1, phi)
    return rate_2 - rate_1 - below, rate_2 - rate_1 + above


def _joined(one: float, other: float, phi: float) -> float:
    return sqrt(max(one * one - 2 * phi * one * other + other * other, 0.0))


def _correlation(both: int, only_first: int, only_second: int, neither: int) -> float:
    """Return phi with Newcombe's continuity correction, 0 if a rate is 0 or 1."""
    first, second = both + only_first, both + only_second
    n = first + only_second + neither
    scale = sqrt(first * (n - first) * second * (n - second))
    excess: float = both * neither - only_first * only_second
    if excess > 0:
        excess = max(excess - n / 2, 0.0)
    return excess / scale if scale else 0.0


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Return how likely so uneven a split of the differing episodes is between equal policies.

    Args:
        only_first: Episodes in which only the first succeeded.
        only_second: Episodes in which only the second did.

    Returns:
        Two-sided p-value [0 to 1]; 1 if the two never differ.

    Raises:
        ConfigError: If a number is negative.

    Source:
        McNemar 1947 (Psychometrika 12(2)), with the binomial distribution in place of chi-squared.

    Example:
        >>> round(mcnemar_exact(12, 2), 4)
        0.0129
    """
    if min(only_first, only_second) < 0:
        raise ConfigError(f"pairs: expected none negative, got {only_first} and {only_second}")
    n, fewer = only_first + only_second, min(only_first, only_second)
    tail: int = 2 * sum(comb(n, k) for k in range(fewer + 1))
    # Whole numbers are divided as such: 2.0**n is no float from n = 1024 on.
    return float(min(1.0, tail / (1 << n)))


def paired_mean(differences: Sequence[float], *, resamples: int = 10_000) -> tuple[float, float]:
    """Return a 95% interval of the mean of differences, one per episode.

    Args:
        differences: Second minus first in each episode.
        resamples: Bootstrap samples, drawn from a fixed seed: the same data, the same interval.

    Returns:
        Lower and upper bound [units of the differences].

    Raises:
        ConfigError: If there are no differences.

    Source:
        Efron 1979 (Ann. Stat. 7(1)); percentile bootstrap over episodes.
    """
    values = np.asarray(differences, dtype=np.float64)
    if not len(values):
        raise ConfigError("differences: expected at least one episode, got none")
    rng = np.random.default_rng(0)
    means = np.empty(resamples)
    for start in range(0, resamples, _AT_ONCE):
        part = means[start : start + _AT_ONCE]
        part[:] = values[rng.integers(0, len(values), (len(part), len(values)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for the number of tests that were made together.

    Args:
        p_values: Of all of them [0 to 1].

    Returns:
        As many, in the same order [0 to 1]. Whoever believes those of at most 0.05 believes a false
        one, or several, in at most 5% of cases.

    Source:
        Holm 1979 (Scand. J. Stat. 6(2), 65-70).

    Example:
        >>> holm([0.01, 0.2, 0.02])
        [0.03, 0.2, 0.04]
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    corrected = np.empty(len(values))
    factors = np.arange(len(values), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(factors * values[order]), 1.0)
    return corrected.tolist()
