"""Whether an episode succeeded, by the conventions that environments follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_gym.envs.adapter import EnvAdapter, Infos, Transition
from simscaleai_plugin_gym.envs.failures import one_line
from simscaleai_plugin_gym.envs.named_code import check_callable, imported

Mask = NDArray[np.bool_]
SuccessRule = Callable[..., Any]

INFO_KEYS = ("is_success", "success")
"""Keys of info that are tried, in order: Gymnasium-Robotics and LeRobot; Meta-World and mazes."""
METHODS = ("is_success", "_check_success")
"""Methods of the environment that are tried after them: robomimic; robosuite."""
RULE_ARGUMENTS = ("observation", "reward", "terminated", "truncated", "info")
"""What a success rule gets, by position."""


class SuccessReader:
    """Finds out whether episodes have succeeded, and refuses to guess.

    Args:
        adapter: Where the episodes run.
        rule: A key of info, a function of ``(observation, reward, terminated, truncated,
            info)`` of one environment, or its name ``module:function``; None follows the
            conventions.
    """

    def __init__(self, adapter: EnvAdapter, rule: str | SuccessRule | None = None) -> None:
        self._adapter = adapter
        rule = rule_from_text(rule) if isinstance(rule, str) else rule
        self._rule = rule
        self._keys = (rule,) if isinstance(rule, str) else INFO_KEYS
        self._infos: Infos = {}

    def read(self, transition: Transition) -> tuple[Mask, Mask]:
        """Return whether each environment succeeded `[N]`, and whether that was reported `[N]`."""
        n = self._adapter.num_envs
        if callable(self._rule):
            verdicts = [self._verdict(self._rule, transition, index) for index in range(n)]
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

    def _verdict(self, rule: SuccessRule, transition: Transition, index: int) -> bool:
        """Return whether a rule calls an environment's step a success.

        Raises:
            ConfigError: If it fails, or says neither yes nor no.
        """
        try:
            return _is_true(rule(*self._adapter.transition_at(transition, index)))
        except Exception as error:
            name = getattr(rule, "__qualname__", type(rule).__name__)
            raise ConfigError(
                f"the success rule {name!r} failed in environment {self._adapter.name!r}: "
                f"{one_line(error)}. Fix the rule; --traceback shows where it failed."
            ) from error

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
    """Return the success rule that a text names.

    The module is imported; the function is looked at, and called by the evaluation only. What was
    not written to be such a rule is refused: modules of Python's standard library, builtins,
    classes, and functions that do not take the arguments `RULE_ARGUMENTS` by position.

    Args:
        text: A key of info, or ``module:function``.

    Returns:
        The key, or the function.

    Raises:
        ConfigError: If the text is empty, the function is not there, or it is no such function.

    Example:
        >>> rule_from_text("goal_met")
        'goal_met'
    """
    module, colon, name = text.partition(":")
    if not text.strip() or "\0" in text:
        raise ConfigError(f"success: expected a key of info or module:function, got {text!r}")
    if not colon:
        return text
    what = f"success {text!r}"
    rule: SuccessRule = imported(what, module, name)
    check_callable(what, rule, RULE_ARGUMENTS, exactly=True)
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
