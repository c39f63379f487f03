"""Looking at results while they come in, without fooling oneself.

A fixed test that is looked at after every episode and stopped when it is "significant" is wrong far
more often than it says. The tests here may be looked at as often as one likes: they know the most
episodes that there may be, the ceiling, and spend their probability of error over the looks. The
intervals hold at every number of episodes at once.

Looks must come in the order of seeds: what ends first is not a fair sample, for a success often
ends an episode early.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import lgamma, log, log1p, sqrt
from typing import Literal

import numpy as np
import numpy.typing as npt

from simscaleai_core.errors import ConfigError

_Floats = npt.NDArray[np.float64]

ALPHA = 0.05
"""Probability of a wrong decision, at most, however often one looks."""
_ROUNDING = 1e-12
_HALVINGS = 50
_GRID = 2001
_LEAST_VARIANCE = 0.25
_MOST_BET = 0.5


class _Spending:
    """The probability of error that may be used up by an episode: in proportion to its number."""

    def __init__(self, ceiling: int, alpha: float) -> None:
        if ceiling < 1 or not 0 < alpha < 1:
            raise ConfigError(
                f"a sequential test: expected a ceiling of at least 1 episode and an alpha between "
                f"0 and 1, got {ceiling} and {alpha}"
            )
        self.ceiling, self._alpha, self._spent = ceiling, alpha, 0.0

    def left(self, n: int) -> float:
        """Return what may be spent at a look after n episodes."""
        return self._alpha * min(n / self.ceiling, 1.0) - self._spent + _ROUNDING

    def spend(self, probability: float) -> None:
        """Note what a look has used up."""
        self._spent += probability


class RateTest:
    """Whether a success rate is at least a threshold, decided as soon as it is clear.

    Args:
        threshold: The rate in question [fraction, 0 to 1].
        ceiling: The most episodes that there may be.
        alpha: Probability of a wrong decision, at most, at every true rate.

    Raises:
        ConfigError: If a number is out of range.

    Source:
        Group-sequential boundaries with spent error (Lan and DeMets 1983, Biometrika 70(3)), here
        exact: the binomial distribution of the runs that have not stopped yet is carried along.

    Example:
        >>> test = RateTest(0.5, ceiling=100)
        >>> [test.look(n, n) for n in range(1, 10)][-1]
        'met'
    """

    def __init__(self, threshold: float, ceiling: int, alpha: float = ALPHA) -> None:
        if not 0 < threshold < 1:
            raise ConfigError(f"a rate: expected a number between 0 and 1, got {threshold}")
        self._rate = threshold
        self._met, self._missed = _Spending(ceiling, alpha), _Spending(ceiling, alpha)
        self._going_on: _Floats = np.ones(1)  # probability of each number of successes
        self._decision: Literal["met", "missed"] | None = None

    def look(self, successes: int, n: int) -> Literal["met", "missed"] | None:
        """Return the decision after n episodes, or None while there is none.

        Args:
            successes: Episodes that succeeded, of the first n.
            n: Episodes so far, at least as many as at the look before.

        Returns:
            ``"met"`` if the rate is at least the threshold, ``"missed"`` if it is below.
        """
        if self._decision is not None:
            return self._decision
        for _ in range(n + 1 - len(self._going_on)):
            stays = np.append(self._going_on, 0.0) * (1 - self._rate)
            stays[1:] += self._going_on * self._rate
            self._going_on = stays
        above = np.cumsum(self._going_on[::-1])[::-1]
        first_met = _first(above <= self._met.left(n))
        below = np.cumsum(self._going_on)
        last_missed = n - _first(below[::-1] <= self._missed.left(n))
        self._met.spend(float(self._going_on[first_met:].sum()))
        self._missed.spend(float(self._going_on[: last_missed + 1].sum()))
        self._going_on[first_met:] = 0.0
        self._going_on[: last_missed + 1] = 0.0
        if successes >= first_met:
            self._decision = "met"
        elif successes <= last_missed:
            self._decision = "missed"
        return self._decision


class PairedTest:
    """Which of two policies succeeds more often on the same episodes, decided when it is clear.

    Only episodes in which they differ count. If the policies are equally good, either is as likely
    to be the one that succeeds: the difference walks at random.

    Args:
        ceiling: The most episodes that there may be.
        alpha: Probability of a wrong decision, at most, whatever the true rates.

    Raises:
        ConfigError: If a number is out of range.

    Source:
        McNemar's exact test (1947), made sequential as `RateTest` is; given which episodes differ,
        the walk is that of a fair coin, so that the boundary is exact at whatever rate they do.

    Example:
        >>> test = PairedTest(ceiling=100)
        >>> [test.look(0, n, n) for n in range(1, 12)][-1]
        'second'
    """

    def __init__(self, ceiling: int, alpha: float = ALPHA) -> None:
        self._error = _Spending(ceiling, alpha)
        self._going_on: _Floats = np.ones(1)  # probability of each lead, from -m to m
        self._decision: Literal["first", "second"] | None = None

    def look(self, only_first: int, only_second: int, n: int) -> Literal["first", "second"] | None:
        """Return which one is better after n episodes, or None while that is not clear.

        Args:
            only_first: Episodes, of the first n, in which only the first succeeded.
            only_second: Episodes in which only the second did.
            n: Episodes so far, at least as many as at the look before.

        Returns:
            ``"first"`` or ``"second"``.
        """
        m, seen = only_first + only_second, len(self._going_on) // 2
        if self._decision is not None or m == seen:
            return self._decision
        for _ in range(m - seen):
            wider = np.zeros(len(self._going_on) + 2)
            wider[:-2] = self._going_on / 2
            wider[2:] += self._going_on / 2
            self._going_on = wider
        both_sides = self._going_on[m:] + self._going_on[m::-1]
        tail = np.cumsum(both_sides[::-1])[::-1]
        lead = max(_first(tail <= self._error.left(n)), 1)
        if lead <= m:
            self._error.spend(float(tail[lead]))
            self._going_on[: m - lead + 1] = 0.0
            self._going_on[m + lead :] = 0.0
        if abs(only_second - only_first) >= lead:
            self._decision = "second" if only_second > only_first else "first"
        return self._decision


def _first(is_true: npt.NDArray[np.bool_]) -> int:
    """Return the first place that is true; the length if there is none."""
    found = np.flatnonzero(is_true)
    return int(found[0]) if len(found) else len(is_true)


def rate_sequence(successes: int, n: int, alpha: float = ALPHA) -> tuple[float, float]:
    """Return an interval of a success rate that holds at every number of episodes at once.

    Args:
        successes: Episodes that succeeded, 0 to `n`.
        n: Episodes so far.
        alpha: Probability that the true rate is ever outside.

    Returns:
        Lower and upper bound of the success rate [fraction, 0 to 1]; wider than `wilson`.

    Raises:
        ConfigError: If the successes are not among the episodes.

    Source:
        Robbins 1970 (Ann. Math. Stat. 41(5)): the rates that a uniform mixture of likelihoods does
        not outweigh by 1 / alpha.

    Example:
        >>> [round(bound, 2) for bound in rate_sequence(90, 100)]
        [0.77, 0.97]
    """
    if not 0 <= successes <= n:
        raise ConfigError(f"successes: expected 0 to n, got {successes} of {n}")
    failures = n - successes
    mixture = lgamma(successes + 1) + lgamma(failures + 1) - lgamma(n + 2)

    def is_inside(rate: float) -> bool:
        gained = successes * log(rate) + failures * log1p(-rate)
        return gained > mixture + log(alpha)

    centre = successes / n if n else 0.5
    low = 0.0 if successes == 0 else _edge(is_inside, centre, 0.0)
    return low, 1.0 if failures == 0 else _edge(is_inside, centre, 1.0)


def _edge(is_inside: Callable[[float], bool], inside: float, outside: float) -> float:
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        if 0 < middle < 1 and is_inside(middle):
            inside = middle
        else:
            outside = middle
    return outside


def difference_sequence(
    differences: Sequence[float], alpha: float = ALPHA
) -> list[tuple[float, float]]:
    """Return, after each episode, an interval of a mean difference; all of them hold at once.

    Args:
        differences: Second minus first in each episode, in the order of seeds [-1 to 1].
        alpha: Probability that the true mean is ever outside.

    Returns:
        Lower and upper bound after each episode [-1 to 1], each within those before.

    Raises:
        ConfigError: If a difference is out of range.

    Source:
        Waudby-Smith and Ramdas 2024 (J. R. Stat. Soc. B 86(1)), theorem 3: the means against which
        hedged bets do not win 1 / alpha; on a grid of steps of 0.001.
    """
    values = (np.asarray(differences, dtype=np.float64) + 1) / 2
    if len(values) and not (values.min() >= 0 and values.max() <= 1):
        raise ConfigError("differences: expected numbers from -1 to 1")
    means = np.linspace(0, 1, _GRID)
    up, down = np.zeros(_GRID), np.zeros(_GRID)  # logarithms of what the bets are worth
    low, high, total, spread = 0.0, 1.0, 0.5, _LEAST_VARIANCE
    found = []
    for n, value in enumerate(values, start=1):
        bet = sqrt(2 * log(2 / alpha) / (spread * n * log1p(n)))
        with np.errstate(divide="ignore"):
            up += np.log1p(np.minimum(bet, _MOST_BET / means) * (value - means))
            down += np.log1p(-np.minimum(bet, _MOST_BET / (1 - means)) * (value - means))
        inside = means[np.maximum(up, down) < log(2 / alpha)]
        if len(inside):
            low, high = max(low, float(inside[0])), min(high, float(inside[-1]))
        total += value
        spread = (spread * n + (value - total / (n + 1)) ** 2) / (n + 1)
        found.append((2 * low - 1, 2 * high - 1))
    return found
