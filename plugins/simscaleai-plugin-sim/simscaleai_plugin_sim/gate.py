"""A bar that an evaluation must reach, such as ``success_rate>=0.95``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen

from simscaleai_core.errors import ConfigError

METRICS = ("success_rate", "success_at_end_rate", "mean_return", "mean_length")
"""Results that a gate can ask for."""

_FORM = re.compile(r"\s*(\w+)\s*(>=|<=|>|<)\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*\Z")
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
    """Name of the result, one of `METRICS`."""
    comparison: str
    """``>=``, ``<=``, ``>`` or ``<``."""
    bound: float
    """The number, in the units of the result."""

    def is_met(self, results: Mapping[str, Any]) -> bool:
        """Return whether the results reach the bar."""
        return _COMPARE[self.comparison](results[self.metric], self.bound)


def gate_from_text(text: str) -> Gate:
    """Read a gate.

    Args:
        text: Such as ``"success_rate>=0.95"``.

    Returns:
        The gate.

    Raises:
        ConfigError: If the text has another form or names no known result.

    Example:
        >>> gate_from_text("success_rate>=0.95").is_met({"success_rate": 0.97})
        True
    """
    match = _FORM.match(text)
    if match is None or match[1] not in METRICS:
        raise ConfigError(
            f"gate {text!r}: expected a result, a comparison and a number, such as "
            f"'success_rate>=0.95'. Results: {', '.join(METRICS)}."
        )
    try:
        bound = float(match[3])
    except ValueError:
        raise ConfigError(f"gate {text!r}: expected a number, got {match[3]!r}") from None
    return Gate(match[1], match[2], bound)
