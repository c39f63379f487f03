"""Two policies on the same episodes: what the difference is, and how sure it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_gym.evaluate.intervals import mcnemar_exact, paired_difference, paired_mean


def compare(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Compare two evaluations episode by episode.

    Differences are the second minus the first: positive if the second is better.

    Args:
        first: Results of `evaluate_policy`.
        second: Results on the same seeds.

    Returns:
        Plain numbers and lists: ``difference`` of the success rates [fraction],
        ``difference_ci95`` [low, high] (Newcombe's method 10), ``p_value`` (McNemar, exact),
        ``n_discordant`` episodes in which they differ, ``only_first``, ``only_second``, ``both``
        and ``neither`` [episodes], ``mean_return_difference`` and ``mean_return_difference_ci95``
        (bootstrap over episodes), ``n_episodes``, ``seeds``, and both results under ``first`` and
        ``second``.

    Raises:
        ConfigError: If the seeds are not the same.

    Source:
        See `paired_difference`, `mcnemar_exact` and `paired_mean`.

    Example:
        >>> one = {"seeds": [0, 1, 2], "successes": [True, False, False], "returns": [1.0, 0.0, 0.0]}
        >>> two = {"seeds": [0, 1, 2], "successes": [True, True, False], "returns": [1.0, 1.0, 0.0]}
        >>> found = compare(one, two)
        >>> round(found["difference"], 3), found["only_second"], found["p_value"]
        (0.333, 1, 1.0)
    """  # noqa: E501
    if list(first["seeds"]) != list(second["seeds"]):
        raise ConfigError(
            "the two evaluations cannot be compared: expected the same seeds, got "
            f"{_range(first['seeds'])} and {_range(second['seeds'])}. Evaluate both on the same."
        )
    one = np.asarray(first["successes"], dtype=np.bool_)
    two = np.asarray(second["successes"], dtype=np.bool_)
    both, neither = int((one & two).sum()), int((~one & ~two).sum())
    only_first, only_second = int((one & ~two).sum()), int((~one & two).sum())
    returns = np.subtract(second["returns"], first["returns"])
    return {
        "difference": float(two.mean() - one.mean()),
        "difference_ci95": list(paired_difference(both, only_first, only_second, neither)),
        "p_value": mcnemar_exact(only_first, only_second),
        "n_discordant": only_first + only_second,
        "only_first": only_first,
        "only_second": only_second,
        "both": both,
        "neither": neither,
        "mean_return_difference": float(returns.mean()),
        "mean_return_difference_ci95": list(paired_mean(returns.tolist())),
        "n_episodes": len(one),
        "seeds": list(first["seeds"]),
        "first": dict(first),
        "second": dict(second),
    }


def _range(seeds: Any) -> str:
    return f"{len(seeds)} from {seeds[0]} to {seeds[-1]}" if len(seeds) else "none"
