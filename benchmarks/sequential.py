"""How often a sequential test is wrong, and how many episodes it needs, by simulation.

Every run looks after every episode. Beside it stands the fixed test of equal power (McNemar's exact
test on the number of episodes that gives it the power that the sequential test has here).

    python benchmarks/sequential.py [--runs 10000] [--ceiling 200] [--seed 0]
"""

from __future__ import annotations

import argparse
from functools import cache
from math import comb
from typing import Any

import numpy as np
from simscaleai_plugin_gym.evaluate.intervals import wilson
from simscaleai_plugin_gym.evaluate.sequential import ALPHA, PairedTest, RateTest

PAIRS = (
    (0.5, 0.5), (0.9, 0.9), (0.99, 0.99), (0.8, 0.79), (0.7, 0.6), (0.95, 0.85), (0.8, 0.6),
    (0.95, 0.75), (0.8, 0.5), (0.9, 0.5),
)  # fmt: skip
"""True success rates of two policies."""
RATES = ((0.95, 0.95), (0.95, 0.949), (0.95, 0.99), (0.95, 0.85), (0.5, 0.5), (0.5, 0.6))
"""A threshold and a true rate."""
_LARGEST = 1000  # episodes: the binomial coefficients are floats
_NEGLIGIBLE = 1e-9
_MOST_POWER = 0.99  # runs that are all right do not tell the power


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--ceiling", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(f"{given.runs} runs a setting, ceiling {given.ceiling} episodes, alpha {ALPHA}\n")
    print("| true rates | wrong (95% interval) | right | undecided | episodes | fixed | ratio |")
    print("|---|---|---|---|---|---|---|")
    for first, second in PAIRS:
        rng = np.random.default_rng(given.seed)
        runs = [_paired(rng, first, second, given.ceiling) for _ in range(given.runs)]
        print(_row(f"{first} / {second}", runs, *_fixed_of(runs, first, second)))
    print("\n| threshold, true rate | wrong (95% interval) | right | undecided | episodes |")
    print("|---|---|---|---|---|")
    for threshold, rate in RATES:
        rng = np.random.default_rng(given.seed)
        runs = [_rate(rng, threshold, rate, given.ceiling) for _ in range(given.runs)]
        print(_row(f"{threshold}, {rate}", runs))


def _paired(rng: Any, first: float, second: float, ceiling: int) -> tuple[str, int]:
    one, two = rng.random(ceiling) < first, rng.random(ceiling) < second
    only_first, only_second = np.cumsum(one & ~two), np.cumsum(two & ~one)
    test, better = PairedTest(ceiling), "first" if first > second else "second"
    for n, (x, y) in enumerate(zip(only_first.tolist(), only_second.tolist(), strict=True), 1):
        if decision := test.look(x, y, n):
            return "right" if decision == better and first != second else "wrong", n
    return "undecided", ceiling


def _rate(rng: Any, threshold: float, rate: float, ceiling: int) -> tuple[str, int]:
    successes = np.cumsum(rng.random(ceiling) < rate).tolist()
    test, truth = RateTest(threshold, ceiling), "met" if rate >= threshold else "missed"
    for n, count in enumerate(successes, 1):
        if decision := test.look(count, n):
            return "right" if decision == truth else "wrong", n
    return "undecided", ceiling


def _row(name: str, runs: list[tuple[str, int]], *further: str) -> str:
    verdicts = [verdict for verdict, _ in runs]
    wrong, n = verdicts.count("wrong"), len(runs)
    low, high = wilson(wrong, n)
    cells = [
        name,
        f"{wrong / n:.2%} ({low:.2%} to {high:.2%})",
        f"{verdicts.count('right') / n:.1%}",
        f"{verdicts.count('undecided') / n:.1%}",
        f"{np.mean([length for _, length in runs]):.0f}",
        *further,
    ]
    return f"| {' | '.join(cells)} |"


def _fixed_of(runs: list[tuple[str, int]], first: float, second: float) -> tuple[str, str]:
    """Return the episodes of the fixed test of equal power, and the sequential test's share."""
    if abs(first - second) < 0.05:
        return "", ""
    wanted = min(sum(verdict == "right" for verdict, _ in runs) / len(runs), _MOST_POWER)
    low, high = 2, _LARGEST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _power(first, second, middle) >= wanted else (middle, high)
    return f"{high}", f"{np.mean([length for _, length in runs]) / high:.2f}"


def _power(first: float, second: float, n: int) -> float:
    """Return how often McNemar's exact test finds the better of two policies with n episodes."""
    better, worse = max(first, second), min(first, second)
    wins, losses = better * (1 - worse), worse * (1 - better)
    differ = wins + losses
    power = 0.0
    for m in range(1, n + 1):
        chance = comb(n, m) * differ**m * (1 - differ) ** (n - m)
        if chance > _NEGLIGIBLE:
            power += chance * _at_most(_critical(m), m, losses / differ)
    return power


@cache
def _critical(m: int) -> int:
    """Return the most losses among m episodes that differ at which the test finds a difference."""
    tail, count = 1, 0
    while 2 * tail <= int(ALPHA * 2**m):
        count += 1
        tail += comb(m, count)
    return count - 1


def _at_most(count: int, m: int, share: float) -> float:
    return sum(comb(m, k) * share**k * (1 - share) ** (m - k) for k in range(count + 1))


if __name__ == "__main__":
    main()
