"""Policies on the same episodes: what the difference of two is, and how sure it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_gym.evaluate.intervals import (
    holm,
    mcnemar_exact,
    paired_difference,
    paired_mean,
)


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
    returns = np.subtract(second["returns"], first["returns"])
    return {
        **compare_successes(first["successes"], second["successes"]),
        "mean_return_difference": float(returns.mean()),
        "mean_return_difference_ci95": list(paired_mean(returns.tolist())),
        "n_episodes": len(returns),
        "seeds": list(first["seeds"]),
        "first": dict(first),
        "second": dict(second),
    }


def compare_all(policies: Sequence[str], results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Compare every two of several evaluations episode by episode.

    Args:
        policies: Name of each.
        results: Results of each on the same seeds.

    Returns:
        Plain numbers and lists: ``policies``, ``n_episodes``, ``seeds``, ``pairs`` (each with
        ``first`` and ``second``, the names, all that `compare` says of the two, and
        ``p_value_corrected``, by Holm, over all pairs), and ``results``, one for each policy.

    Source:
        See `compare` and `holm`.
    """
    alone = {"first", "second", "seeds", "n_episodes"}
    pairs: list[dict[str, Any]] = []
    for one, two in combinations(range(len(policies)), 2):
        found = compare(results[one], results[two])
        names = {"first": policies[one], "second": policies[two]}
        pairs.append(names | {k: v for k, v in found.items() if k not in alone})
    for pair, p_value in zip(pairs, holm([pair["p_value"] for pair in pairs]), strict=True):
        pair["p_value_corrected"] = p_value
    return {
        "policies": list(policies),
        "n_episodes": results[0]["n_episodes"],
        "seeds": list(results[0]["seeds"]),
        "pairs": pairs,
        "results": [dict(each) for each in results],
    }


def compare_successes(first: Sequence[bool], second: Sequence[bool]) -> dict[str, Any]:
    """Compare two success rates on the same episodes.

    Args:
        first: Whether each episode of the first was successful, at least one.
        second: Of the second, in the same order.

    Returns:
        Of `compare`: ``difference`` with its interval, ``p_value``, ``n_discordant``,
        ``only_first``, ``only_second``, ``both`` and ``neither``.

    Source:
        See `paired_difference` and `mcnemar_exact`.
    """
    one, two = (np.asarray(each, dtype=np.bool_) for each in (first, second))
    both, neither = int((one & two).sum()), int((~one & ~two).sum())
    only_first, only_second = int((one & ~two).sum()), int((~one & two).sum())
    return {
        "difference": float(two.mean() - one.mean()),
        "difference_ci95": list(paired_difference(both, only_first, only_second, neither)),
        "p_value": mcnemar_exact(only_first, only_second),
        "n_discordant": only_first + only_second,
        "only_first": only_first,
        "only_second": only_second,
        "both": both,
        "neither": neither,
    }


def _range(seeds: Any) -> str:
    return f"{len(seeds)} from {seeds[0]} to {seeds[-1]}" if len(seeds) else "none"
