"""A sound environment with its expert, and environments that break one thing each."""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import gymnasium
import numpy as np

from simscaleai_core.testing import EnvSuite

_NUMBERS = itertools.count()
HORIZON, NEAR = 40, 0.05


class Sound(gymnasium.Env):
    """A point on a line that is to be brought to a target."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(self):
        self.observation_space = gymnasium.spaces.Dict({
            "x": gymnasium.spaces.Box(-20.0, 20.0, (1,), np.float32),
            "target": gymnasium.spaces.Box(-20.0, 20.0, (1,), np.float32),
        })  # fmt: skip
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.x, self.target = np.zeros(1, np.float32), np.zeros(1, np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        self.x = np.zeros(1, np.float32)
        self.target = (self.np_random.uniform(3, 9, 1) * self.np_random.choice([-1.0, 1.0])).astype(
            "f4"
        )
        return self.observe(), self.info()

    def observe(self):
        return {"x": self.x.copy(), "target": self.target.copy()}

    def info(self):
        return {"is_success": self.is_success()}

    def is_success(self):
        return bool(abs(float(self.x[0] - self.target[0])) < NEAR)

    def move(self, action):
        self.x = (self.x + np.clip(action, -1, 1) * 0.4).astype("f4")

    def step(self, action):
        self.steps += 1
        self.move(np.asarray(action))
        reward = -abs(float(self.x[0] - self.target[0]))
        return self.observe(), reward, self.is_success(), self.is_over(), self.info()

    def is_over(self):
        return self.steps >= HORIZON


def expert(observation):
    return np.clip((observation["target"] - observation["x"]) / 0.4, -1, 1)


def lost_expert(observation):
    return -np.sign(observation["target"])


class SoundEnv(EnvSuite):
    expert = staticmethod(expert)
    episodes = 5
    most_steps = 60


class TakesNoOptions(Sound):
    def reset(self, seed=None):
        return super().reset(seed=seed)


class OwnRandomness(Sound):
    def move(self, action):
        super().move(action)
        if self.steps > 5:
            self.x = self.x + np.float32(1e-4 * (next(_NUMBERS) % 97))


class RemembersWind(Sound):
    wind = 0.0

    def move(self, action):
        super().move(action + self.wind)
        if self.steps == 12:
            self.wind += 0.01


class OneStart(Sound):
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.target = np.full(1, 5.0, "f4")
        return self.observe(), self.info()


class LeavesItsSpace(Sound):
    def observe(self):
        found = super().observe()
        return {**found, "x": found["x"] + 30} if getattr(self, "steps", 0) == 5 else found


class SharesItsArray(Sound):
    def __init__(self):
        super().__init__()
        self.shared = np.zeros(1, np.float32)

    def observe(self):
        if getattr(self, "steps", 0) < 2:
            return super().observe()
        self.shared[:] = self.x
        return {"x": self.shared, "target": self.target.copy()}


class SuccessAsNumber(Sound):
    def info(self):
        return {"is_success": float(self.is_success())}


class NeverEnds(Sound):
    def is_over(self):
        return False


class WeakAgainstWildActions(Sound):
    def move(self, action):
        super().move(action)
        if np.abs(action).max() > 1e5:
            self.x = self.x * np.nan


class DrawsGlobally(Sound):
    def move(self, action):
        np.random.rand()
        super().move(action)


class ClosesOnce(Sound):
    is_open = True

    def close(self):
        if not self.is_open:
            raise RuntimeError("the window is gone")
        self.is_open = False


class NearIsFar(Sound):
    def is_success(self):
        return getattr(self, "steps", 0) > 3


TABLE: list[tuple[Any, str, str]] = [
    (TakesNoOptions, "gymnasium_contract", "options"),
    (OwnRandomness, "episodes_repeat", "np_random"),
    (RemembersWind, "episodes_do_not_remember", "Reset"),
    (OneStart, "seeds_differ", "np_random"),
    (LeavesItsSpace, "observations_stay_in_their_space", "x"),
    (SharesItsArray, "observations_are_kept", "copies"),
    (SuccessAsNumber, "success_is_reported", "bool"),
    (NeverEnds, "episodes_end", "60 steps"),
    (WeakAgainstWildActions, "wild_actions_are_harmless", "Clip"),
    (DrawsGlobally, "random_state_is_left_alone", "NumPy"),
    (ClosesOnce, "closes_twice", "window"),
    (
        lambda: Sound(),  # noqa: PLW0108 - what is wrong with it
        "factory_pickles",
        "module",
    ),
    (NearIsFar, "random_actions_fail", "stricter"),
]
SOUND = [(SoundEnv, Sound)]


class LostExpert(SoundEnv):
    expert = staticmethod(lost_expert)


SUITES_THAT_FAIL = [(LostExpert, Sound, "expert_succeeds", "Mend the expert")]
