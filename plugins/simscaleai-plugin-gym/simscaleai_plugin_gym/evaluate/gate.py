"""A bar that an evaluation must reach, such as ``success_rate>=0.95``."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen

from simscaleai_core.errors import ConfigError

METRICS = ("success_rate", "success_at_end_rate", "mean_return", "mean_length")
"""Results of one policy that a gate can ask for."""
COMPARISON_METRICS = (
    "difference",
    "mean_return_difference",
    "p_value",
    *(f"{side}.{metric}" for side in ("first", "second") for metric in METRICS),
)
"""Results of a comparison that a gate can ask for."""

_BOUNDS = {"_low": 0, "_high": 1}
_WITH_INTERVAL = {"success_rate", "difference", "mean_return_difference"}

_FORM = re.compile(r"\s*([\w.]+)\s*(>=|<=|>|<)\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*\Z")
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


@frozen
class Gate:
    """One comparison of one result with one number."""

    metric: str
    """Name of the result, one of `METRICS` or `COMPARISON_METRICS`; a name that has an interval may
    end in ``_low`` or ``_high`` for its bounds."""
    comparison: str
    """``>=``, ``<=``, ``>`` or ``<``."""
    bound: float
    """The number, in the units of the result."""

    def is_met(self, results: Mapping[str, Any]) -> bool:
        """Return whether the results reach the bar."""
        place = results
        *sides, name = self.metric.split(".")
        for side in sides:
            place = place[side]
        stem, suffix = _split(name)
        value = place[name] if not suffix else place[f"{stem}_ci95"][_BOUNDS[suffix]]
        return _COMPARE[self.comparison](value, self.bound)


def gate_from_text(text: str, *, compares: bool = False) -> Gate:
    """Read a gate.

    Args:
        text: Such as ``"success_rate>=0.95"`` or, for a bound of its interval,
            ``"success_rate_low>=0.95"``.
        compares: Whether it is for a comparison of two policies.

    Returns:
        The gate.

    Raises:
        ConfigError: If the text has another form or names no known result.

    Example:
        >>> gate_from_text("success_rate>=0.95").is_met({"success_rate": 0.97})
        True
    """
    metrics = COMPARISON_METRICS if compares else METRICS
    match = _FORM.match(text)
    if match is None or _split(match[1])[0] not in metrics:
        example = "difference>=-0.02" if compares else "success_rate>=0.95"
        raise ConfigError(
            f"gate {text!r}: expected a result, a comparison and a number, such as "
            f"{example!r}. Results: {', '.join(metrics)}."
        )
    try:
        bound = float(match[3])
    except ValueError:
        bound = math.nan
    if not math.isfinite(bound):
        raise ConfigError(f"gate {text!r}: expected a number, got {match[3]!r}")
    return Gate(match[1], match[2], bound)


def _split(metric: str) -> tuple[str, str]:
    """Return the result's name, and ``_low`` or ``_high`` if a bound of its interval is meant."""
    for suffix in _BOUNDS:
        stem = metric.removesuffix(suffix)
        if stem != metric and stem.rpartition(".")[2] in _WITH_INTERVAL:
            return stem, suffix
    return metric, ""
