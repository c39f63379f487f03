"""What failed episodes have in common: how they began, beside how the successful ones did."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from simscaleai_plugin_gym.evaluate.intervals import holm
from simscaleai_plugin_gym.evaluate.rank_test import mann_whitney


def commonalities(
    conditions: Sequence[Mapping[str, float]], successes: Sequence[bool]
) -> list[dict[str, Any]]:
    """Compare how failed and successful episodes began, quantity by quantity.

    Args:
        conditions: Of each episode the numbers by name, such as its initial condition.
        successes: Whether each was successful.

    Returns:
        A row for each quantity that varies and that both kinds of episodes have, the smallest
        p-value first: ``name``, ``median_failed`` and ``median_successful`` [units of the
        quantity], ``failed_greater``, how often it is greater in the failed one of a failed and a
        successful episode [fraction], ``p_value`` of that (two-sided), and ``p_value_corrected``
        for the number of quantities. No rows if all episodes failed, or none.

    Source:
        See `mann_whitney` and `holm`.

    Example:
        >>> conditions = [{"x": float(i), "y": float(i % 3)} for i in range(20)]
        >>> first, _ = commonalities(conditions, [i < 14 for i in range(20)])
        >>> first["name"], first["median_failed"], first["median_successful"]
        ('x', 16.5, 6.5)
    """
    rows = []
    for name in dict.fromkeys(name for condition in conditions for name in condition):
        failed, successful = (
            [c[name] for c, done in zip(conditions, successes, strict=True)
             if bool(done) is wanted and name in c]
            for wanted in (False, True)
        )  # fmt: skip
        if failed and successful and len({*failed, *successful}) > 1:
            rows.append(_row(name, failed, successful))
    corrected = holm([row["p_value"] for row in rows])
    together = [
        {**row, "p_value_corrected": p} for row, p in zip(rows, corrected, strict=True)
    ]  # fmt: skip
    return sorted(together, key=lambda row: (row["p_value"], -abs(row["failed_greater"] - 0.5)))


def conditions_of(results: Mapping[str, Any]) -> list[dict[str, float]]:
    """Return how each episode of an evaluation began, with the words of its instruction.

    Args:
        results: What `evaluate_policy` returns.

    Returns:
        Of each episode the initial condition; if there are instructions, each word of any of them
        is a quantity too, 1 where it was said and 0 elsewhere.

    Example:
        >>> results = {"initial_conditions": [{"x": 0.5}, {}], "instructions": ["Go!", "Stop!"]}
        >>> conditions_of(results)[0]
        {'x': 0.5, "word 'go'": 1.0, "word 'stop'": 0.0}
    """
    conditions = [dict(each) for each in results["initial_conditions"]]
    said = [set(re.findall(r"\w+", text.lower())) for text in results.get("instructions", ())]
    words = sorted({word for each in said for word in each})
    for condition, own in zip(conditions, said, strict=False):  # none, or one of each
        condition |= {f"word {word!r}": float(word in own) for word in words}
    return conditions


def _row(name: str, failed: Sequence[float], successful: Sequence[float]) -> dict[str, Any]:
    share, p_value = mann_whitney(failed, successful)
    return {
        "name": name,
        "median_failed": float(np.median(failed)),
        "median_successful": float(np.median(successful)),
        "failed_greater": share,
        "p_value": p_value,
    }
