"""How sure a success rate is."""

from __future__ import annotations

from math import sqrt

from simscaleai_core.errors import ConfigError


def wilson(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Return the Wilson score interval of a success rate.

    Unlike the normal approximation it stays within 0 to 1 and is sound at 0 and at n successes.

    Args:
        successes: Episodes that succeeded, 0 to `n`.
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
