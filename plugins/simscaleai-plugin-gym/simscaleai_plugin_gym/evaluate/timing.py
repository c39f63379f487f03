"""Where the time of an evaluation goes: physics, environment, policy."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any

import numpy as np
from attrs import frozen

from simscaleai_plugin_gym.envs.adapter import EnvAdapter, Infos, Mask, Transition


class TimedEnv:
    """An environment that counts the time spent in it.

    Args:
        adapter: The environment.
    """

    def __init__(self, adapter: EnvAdapter) -> None:
        self._adapter = adapter
        self.name = adapter.name
        self.num_envs = adapter.num_envs
        self.is_batched = adapter.is_batched
        self.action_space = adapter.action_space
        self.hold = adapter.hold
        self.reported = adapter.reported
        self.query = adapter.query
        self.transition_at = adapter.transition_at
        self.physics_s = adapter.physics_s
        self.env_s = 0.0
        """Time spent in steps and resets so far [s]."""

    def reset(self, seeds: Sequence[int], mask: Mask) -> tuple[Any, Infos]:
        """Return observation and infos, after episodes began where the mask `[N]` is true."""
        started = perf_counter()
        began = self._adapter.reset(seeds, mask)
        self.env_s += perf_counter() - started
        return began

    def step(self, actions: Any) -> Transition:
        """Return what one step gives in every environment."""
        started = perf_counter()
        transition = self._adapter.step(actions)
        self.env_s += perf_counter() - started
        return transition


@frozen(kw_only=True)
class Times:
    """What the time of some episodes went into."""

    wall_s: float
    """All of it [s]."""
    predict_s: Sequence[float]
    """Time of each call of the policy [s]."""
    env_s: float
    """Time in steps and resets [s]."""
    physics_s: float | None
    """Time in which physics was stepped [s]; None if the environment does not count it."""


class Stopwatch:
    """Times of an evaluation that has begun.

    Args:
        adapter: Where it runs.
    """

    def __init__(self, adapter: TimedEnv) -> None:
        self._adapter = adapter
        self._physics_s = adapter.physics_s()
        self._started = perf_counter()

    def times(self, predict_s: Sequence[float]) -> Times:
        """Return what the time went into, up to now.

        Args:
            predict_s: Time of each call of the policy [s]; one call acts in every environment.
        """
        physics_s = self._adapter.physics_s()
        if physics_s is not None and self._physics_s is not None:
            physics_s -= self._physics_s
        return Times(
            wall_s=perf_counter() - self._started,
            predict_s=tuple(predict_s),
            env_s=self._adapter.env_s,
            physics_s=physics_s,
        )


def shares(parts: Sequence[Times], wall_s: float | None = None) -> dict[str, Any]:
    """Return what the time of an evaluation went into.

    Args:
        parts: Its tasks, at least one.
        wall_s: Time that passed from their beginning to their end [s]; None for the sum of theirs.

    Returns:
        ``wall_s`` [s]; ``predict_ms``: ``p50``, ``p95``, ``p99`` and ``max`` of one call of the
        policy [ms] and the number of ``calls``; and as fractions of the time of all tasks
        ``policy_share``, ``env_share`` (steps and resets) and ``physics_share``, the part of it
        in which physics was stepped, None if the environment does not count it.
    """
    total_s = sum(part.wall_s for part in parts)
    predict_s = [each for part in parts for each in part.predict_s]
    p50, p95, p99 = np.percentile(predict_s, [50, 95, 99]) * 1e3
    physics_s = [part.physics_s for part in parts if part.physics_s is not None]
    return {
        "wall_s": total_s if wall_s is None else wall_s,
        "predict_ms": {
            "p50": float(p50),
            "p95": float(p95),
            "p99": float(p99),
            "max": max(predict_s) * 1e3,
            "calls": len(predict_s),
        },
        "policy_share": sum(predict_s) / total_s,
        "env_share": sum(part.env_s for part in parts) / total_s,
        "physics_share": sum(physics_s) / total_s if len(physics_s) == len(parts) else None,
    }
