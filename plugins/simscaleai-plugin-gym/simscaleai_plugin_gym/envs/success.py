"""Whether an episode succeeded, by the conventions that environments follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_gym.envs.adapter import EnvAdapter, Infos, Transition

Mask = NDArray[np.bool_]
SuccessRule = Callable[..., Any]

INFO_KEYS = ("is_success", "success")
"""Keys of info that are tried, in order: Gymnasium-Robotics and LeRobot; Meta-World and mazes."""
METHODS = ("is_success", "_check_success")
"""Methods of the environment that are tried after them: robomimic; robosuite."""


class SuccessReader:
    """Finds out whether episodes have succeeded, and refuses to guess.

    Args:
        adapter: Where the episodes run.
        rule: A key of info, or a function of ``(observation, reward, terminated, truncated,
            info)`` of one environment; None follows the conventions.
    """

    def __init__(self, adapter: EnvAdapter, rule: str | SuccessRule | None = None) -> None:
        self._adapter = adapter
        self._rule = rule
        self._keys = (rule,) if isinstance(rule, str) else INFO_KEYS
        self._infos: Infos = {}

    def read(self, transition: Transition) -> tuple[Mask, Mask]:
        """Return whether each environment succeeded `[N]`, and whether that was reported `[N]`."""
        n = self._adapter.num_envs
        if callable(self._rule):
            verdicts = [
                self._rule(*self._adapter.transition_at(transition, index)) for index in range(n)
            ]
            return _truth(verdicts, np.ones(n, dtype=np.bool_)), np.ones(n, dtype=np.bool_)
        self._infos = transition.infos
        for key in self._keys:
            values, present = self._adapter.reported(transition.infos, key)
            if present.any():
                return _truth(values, present), present
        for method in () if self._rule is not None else METHODS:
            reports = self._adapter.query(method)
            if reports is not None:
                return _truth(reports, np.ones(n, dtype=np.bool_)), np.ones(n, dtype=np.bool_)
        return np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.bool_)

    def missing(self) -> ConfigError:
        """Return the error for an episode that ended without any report of success."""
        searched = [f"info[{key!r}]" for key in self._keys]
        if self._rule is None:
            searched += [f"{method}()" for method in METHODS]
        held = sorted(key for key in self._infos if not key.startswith("_"))
        return ConfigError(
            f"environment {self._adapter.name!r} does not report whether an episode succeeded: "
            f"searched {', '.join(searched)}; info held {held!r}. Give "
            "EvalConfig(success=...): a key of info, or a function of (observation, reward, "
            "terminated, truncated, info)."
        )


def rule_from_text(text: str) -> str | SuccessRule:
    """Return a success rule that a command line names.

    Args:
        text: A key of info, or ``module:function``.

    Returns:
        The key, or the function.

    Raises:
        ConfigError: If the module or the function is not there.

    Example:
        >>> rule_from_text("goal_met")
        'goal_met'
    """
    module, colon, name = text.partition(":")
    if not colon:
        return text
    try:
        rule: SuccessRule = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"success {text!r} cannot be loaded: {error}. Expected a key of info, or "
            "module:function with a function of (observation, reward, terminated, truncated, info)."
        ) from error
    if not callable(rule):
        raise ConfigError(f"success {text!r}: expected a function, got {type(rule).__name__}")
    return rule


def _truth(values: Any, present: Mask) -> Mask:
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "bfiu":
        truth: Mask = present & (values != 0)
        return truth
    pairs = zip(values, present, strict=True)
    return np.array([bool(there) and _is_true(value) for value, there in pairs], dtype=np.bool_)


def _is_true(value: Any) -> bool:
    """Return the truth of a bool, of 0 or 1, of an array, or of ``{"task": bool}``."""
    if isinstance(value, Mapping):
        return _is_true(value["task"])
    return bool(np.asarray(value).all())
