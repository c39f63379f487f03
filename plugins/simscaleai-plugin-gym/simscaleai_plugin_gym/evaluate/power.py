"""How many episodes it takes to see a difference of two success rates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_gym.evaluate.gate import gate_from_text
from simscaleai_plugin_gym.evaluate.sequential import ALPHA

POWER = 0.8
"""Probability of seeing a difference that is there."""
_Z_ALPHA = 1.959964  # two-sided 5%
_Z_POWER = 0.841621  # 80%
_WHOLE_STEPS = 1.5


def difference_from_text(text: str) -> float:
    """Read the difference that is to be seen.

    Args:
        text: Such as ``"difference>=0.05"``.

    Returns:
        The difference [fraction].

    Raises:
        ConfigError: If it is none.
    """
    example = "'difference>=0.05'"
    try:
        gate = gate_from_text(text, compares=True)
    except ConfigError:
        gate = None
    if gate is None or gate.metric != "difference" or gate.comparison != ">=":
        raise ConfigError(f"n-for {text!r}: expected a difference, such as {example}, got {text!r}")
    if not 0 < gate.bound < 1:
        raise ConfigError(f"n-for {text!r}: expected a number between 0 and 1, got {gate.bound:g}")
    return gate.bound


def episodes_for(difference: float, results: Mapping[str, Any]) -> dict[str, Any]:
    """Return how many episodes it takes to see a difference, given results so far.

    Args:
        difference: The true difference of two success rates [fraction, 0 to 1].
        results: Of a comparison, whose discordant episodes are counted on; or of one policy, whose
            counterpart is taken to succeed independently of it, the worst case unless the two
            disagree on purpose.

    Returns:
        ``difference``, ``alpha``, ``power``, ``discordant`` (fraction of episodes in which just one
        of the two succeeds), ``discordant_from``, where that comes from, and ``episodes``.
    """
    is_measured = "n_discordant" in results
    if is_measured:
        discordant = results["n_discordant"] / results["n_episodes"]
    else:
        discordant = independent_discordance(results["success_rate"], difference)
    discordant = max(discordant, difference)  # there is no difference without
    return {
        "difference": difference,
        "alpha": ALPHA,
        "power": POWER,
        "discordant": discordant,
        "discordant_from": "these episodes" if is_measured else "independence, the worst case",
        "episodes": paired_episodes(difference, discordant),
    }


def independent_discordance(rate: float, difference: float) -> float:
    """Return in how many episodes just one of two independent policies succeeds.

    Args:
        rate: Success rate of one [fraction].
        difference: How far the other's is from it [fraction]; up or down, whichever is possible and
            makes more episodes discordant.

    Returns:
        Fraction of episodes.

    Source:
        Ours: p (1 - q) + q (1 - p).
    """
    others = [other for other in (rate - difference, rate + difference) if 0 <= other <= 1]
    return max((rate + other - 2 * rate * other for other in others), default=1.0)


def paired_episodes(difference: float, discordant: float) -> int:
    """Return how many paired episodes McNemar's exact test needs, at alpha 5% and power 80%.

    Args:
        difference: True difference of the success rates [fraction, above 0].
        discordant: Fraction of episodes in which just one of the two succeeds, at least the
            difference.

    Returns:
        Episodes of each policy.

    Source:
        Connor 1987 (Biometrics 43(1), 207-211) for the approximate test. The exact one needs more,
        because the lead of one policy over the other moves in whole steps: ours, 1.5 / difference,
        with which its power is between 79 and 93%.

    Example:
        >>> paired_episodes(0.1, 0.3)
        249
    """
    spread = math.sqrt(max(discordant - difference**2, 0.0))
    episodes = ((_Z_ALPHA * math.sqrt(discordant) + _Z_POWER * spread) / difference) ** 2
    return math.ceil(episodes + _WHOLE_STEPS / difference)
