"""Success under every combination of some conditions, against the nominal one of each policy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import attrs
from attrs import frozen

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_gym.envs.variations import Variation
from simscaleai_plugin_gym.evaluate.comparison import compare_successes
from simscaleai_plugin_gym.evaluate.intervals import holm
from simscaleai_plugin_gym.rollout.disturbances import Disturbances

Values = Mapping[str, float]
"""One condition: name of each quantity and its value."""

_DISTURBANCES: dict[str, float] = {
    each.name: each.default for each in attrs.fields(Disturbances) if each.default is not None
}
_MAX_CELLS = 10_000


@frozen(kw_only=True)
class Sweep:
    """Conditions: every combination of the values of some quantities."""

    varied: Mapping[str, Sequence[float]]
    """Values by quantity, at least one."""
    nominal: Values
    """The condition that the others are compared with."""

    @property
    def conditions(self) -> list[Values]:
        """Every combination; the quantity named last varies fastest."""
        return [
            dict(zip(self.varied, values, strict=True)) for values in product(*self.varied.values())
        ]


def varied_from_texts(texts: Sequence[str]) -> dict[str, list[float]]:
    """Read what is varied.

    Args:
        texts: Such as ``"friction=0.5,1,2"``; a hyphen in a name is an underscore.

    Returns:
        Values by quantity, whole numbers as int.

    Raises:
        ConfigError: If a text has another form, or something is said twice.

    Example:
        >>> varied_from_texts(["delay=0,1", "action-gain=0.7,1"])
        {'delay': [0, 1], 'action_gain': [0.7, 1]}
    """
    varied: dict[str, list[float]] = {}
    for text in texts:
        name, _, listed = text.partition("=")
        name = name.strip().replace("-", "_")
        values = [number for each in listed.split(",") if (number := _number(each)) is not None]
        if not name.isidentifier() or len(values) != listed.count(",") + 1:
            raise ConfigError(
                f"vary {text!r}: expected a name and numbers, such as 'delay=0,1,2', got {text!r}"
            )
        if name in varied or len(set(values)) < len(values):
            what = f"the quantity {name!r}" if name in varied else "a value"
            raise ConfigError(f"vary {text!r}: expected {what} once, got it twice")
        varied[name] = values
    if math.prod(map(len, varied.values())) > _MAX_CELLS:
        raise ConfigError(
            f"vary: expected at most {_MAX_CELLS:,} conditions, got "
            f"{math.prod(map(len, varied.values())):,}. Leave values out."
        )
    return varied


def sweep_of(
    varied: Mapping[str, Sequence[float]], env: str, variations: Mapping[str, Variation]
) -> Sweep:
    """Return the conditions of a sweep.

    Args:
        varied: Values by quantity.
        env: Name of the environment, for messages.
        variations: What can be varied of it, beside the `Disturbances`, which come first.

    Returns:
        The sweep. Nominal is each quantity's default if it is among the values, else its first
        value.

    Raises:
        ConfigError: If something cannot be varied.
    """
    defaults = {name: each.default for name, each in variations.items()} | _DISTURBANCES
    unknown = [name for name in varied if name not in defaults]
    if unknown:
        raise ConfigError(
            f"vary {unknown[0]!r}: expected what can be varied of {env!r}: "
            f"{', '.join(defaults)}, got {unknown[0]!r}"
        )
    for condition in product(*varied.values()):
        disturbances_of(dict(zip(varied, condition, strict=True)))
    nominal = {
        name: next((value for value in values if value == defaults[name]), values[0])
        for name, values in varied.items()
    }
    return Sweep(varied=varied, nominal=nominal)


def disturbances_of(condition: Values) -> Disturbances:
    """Return the part of a condition that every environment knows."""
    return Disturbances(**{k: v for k, v in condition.items() if k in _DISTURBANCES})  # type: ignore[arg-type]


def options_of(condition: Values) -> dict[str, float]:
    """Return the part of a condition that are options of the environment."""
    return {k: v for k, v in condition.items() if k not in _DISTURBANCES}


def cells_of(
    sweep: Sweep, policies: Sequence[str], results: Sequence[Sequence[Mapping[str, Any]]]
) -> list[dict[str, Any]]:
    """Return the cells of a sweep: each policy under each condition, against its nominal one.

    Args:
        sweep: The conditions.
        policies: Names of the policies.
        results: Of each policy under each condition, as `results_of` returns, on the same seeds.

    Returns:
        Cells of plain numbers and lists: ``policy``, ``condition``, ``success_rate`` and
        ``success_rate_ci95``, ``n_episodes``, ``successes``, ``initial_conditions``,
        ``mean_return``, ``mean_length`` [steps]; ``difference`` of the success rate to the nominal
        condition, its ``difference_ci95`` (Newcombe), ``p_value`` (McNemar, exact) and
        ``p_value_corrected`` (Holm, over all conditions but the nominal ones, of all policies).
    """
    cells: list[dict[str, Any]] = []
    at = sweep.conditions.index(sweep.nominal)
    for policy, own in zip(policies, results, strict=True):
        for condition, result in zip(sweep.conditions, own, strict=True):
            about = {"policy": policy, "condition": dict(condition)}
            found = compare_successes(own[at]["successes"], result["successes"])
            cells.append(
                {**about, **{k: result[k] for k in _KEPT}, **{k: found[k] for k in _PAIRED}}
            )
    tested = [cell for cell in cells if cell["condition"] != sweep.nominal]
    corrected = holm([cell["p_value"] for cell in tested])
    for cell in cells:
        if cell["condition"] == sweep.nominal:
            cell |= {"difference_ci95": [0.0, 0.0], "p_value": 1.0, "p_value_corrected": 1.0}
    for cell, p_value in zip(tested, corrected, strict=True):
        cell["p_value_corrected"] = p_value
    return cells


_KEPT = (
    "success_rate", "success_rate_ci95", "n_episodes", "successes", "initial_conditions",
    "mean_return", "mean_length",
)  # fmt: skip
_PAIRED = ("difference", "difference_ci95", "p_value")


def _number(text: str) -> float | None:
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        return value if math.isfinite(value) else None
    return None
