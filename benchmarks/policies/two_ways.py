r"""Two tasks with two equally good ways: round an obstacle, and a choice that must be kept.

    simscale record --env benchmarks.policies.two_ways:TwoWays/Round-v0 \
        --expert benchmarks.policies.two_ways:round_expert --episodes 200 --output round.h5

Demonstrations go above with odd seeds and below with even ones; the observation does not show it.
Both environments say in info ``mode`` which way was taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

_STEP_M = 0.08
_OBSTACLE_M = 0.35
_GOAL_M = 0.1


class Round(gymnasium.Env[Any, Any]):
    """A point goes from the left to the right round a disc in the middle, above or below.

    Observation: position [m]. Action: velocity, at most 1 in each direction [0.08 m per step].
    Touching the disc ends the episode. All episodes begin alike: what an observation shows says
    nothing of the way, until it has been taken.
    """

    observation_space = Box(-np.inf, np.inf, (2,))
    action_space = Box(-1, 1, (2,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Begin an episode; the expert's way is in the privileged part of info."""
        super().reset(seed=seed)
        self._at = np.array([-1.0, 0.0])
        return self._seen(), {"privileged": {"way": _way(seed)}}

    def step(self, action: Any) -> Any:
        """Move; ``mode`` is known once the point has passed the middle."""
        self._at = self._at + _STEP_M * np.asarray(action, dtype=float)
        touched = bool(np.hypot(*self._at) < _OBSTACLE_M)
        there = bool(np.hypot(self._at[0] - 1.0, self._at[1]) < _GOAL_M)
        info: dict[str, Any] = {"is_success": there}
        if self._at[0] > 0:
            info["mode"] = "above" if self._at[1] > 0 else "below"
        return self._seen(), float(there), touched or there, False, info

    def _seen(self) -> Any:
        return self._at.astype(np.float32)


class Kept(gymnasium.Env[Any, Any]):
    """A point goes to the right and holds a switch to one side, the same all the way.

    Observation: position and speed along the way; it does not show the side. Action: velocity, and
    the switch, which is on a side beyond 0.3. An episode fails when the switch changes its side.
    """

    observation_space = Box(-np.inf, np.inf, (2,))
    action_space = Box(-1, 1, (2,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Begin an episode; the expert's way is in the privileged part of info."""
        super().reset(seed=seed)
        self._at, self._speed = self.np_random.uniform(-1.0, -0.9), self.np_random.uniform(0.8, 1.0)
        self._side = 0.0
        return self._seen(), {"privileged": {"way": _way(seed)}}

    def step(self, action: Any) -> Any:
        """Move; ``mode`` is the side that the switch was on first."""
        self._at += _STEP_M * self._speed * float(action[0])
        side = float(np.sign(action[1])) if abs(action[1]) > 0.3 else 0.0
        has_failed = side == 0.0 or side == -self._side
        self._side = self._side or side
        there = self._at > 1.0 and not has_failed
        info: dict[str, Any] = {"is_success": there}
        if self._side:
            info["mode"] = "above" if self._side > 0 else "below"
        return self._seen(), float(there), has_failed or there, False, info

    def _seen(self) -> Any:
        return np.array([self._at, self._speed], dtype=np.float32)


def round_expert(observation: Mapping[str, Any]) -> Any:
    """Return the expert's actions `[N, 2]` in the first task."""
    at, way = observation["state"], observation["way"]
    before = at[:, :1] < 0.0
    aim = np.where(before, np.stack([0 * way, 0.6 * way], axis=1), [[1.0, 0.0]])
    towards = aim - at
    return towards / np.maximum(np.abs(towards).max(axis=1, keepdims=True), _STEP_M)


def kept_expert(observation: Mapping[str, Any]) -> Any:
    """Return the expert's actions `[N, 2]` in the second task."""
    way = observation["way"]
    return np.stack([np.ones_like(way), way], axis=1)


def _way(seed: int | None) -> float:
    return 1.0 if (seed or 0) % 2 else -1.0


gymnasium.register("TwoWays/Round-v0", Round, max_episode_steps=60)
gymnasium.register("TwoWays/Kept-v0", Kept, max_episode_steps=60)
