"""A sound environment with its expert, and environments that break one thing each."""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import gymnasium
import numpy as np
from simscaleai_devkit import EnvSuite

from .broken import Broken, declared_in

TABLE: list[Broken] = []
fails = declared_in(TABLE)

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


@fails("gymnasium_contract", "options")
class TakesNoOptions(Sound):
    def reset(self, seed=None):
        return super().reset(seed=seed)


@fails("episodes_repeat", "np_random")
class OwnRandomness(Sound):
    def move(self, action):
        super().move(action)
        if self.steps > 5:
            self.x = self.x + np.float32(1e-4 * (next(_NUMBERS) % 97))


@fails("episodes_do_not_remember", "Reset")
class RemembersWind(Sound):
    wind = 0.0

    def move(self, action):
        super().move(action + self.wind)
        if self.steps == 12:
            self.wind += 0.01


@fails("two_at_once", "on the instance")
class SharesItsPlace(Sound):
    """Keeps where the point is on the class, and finds it again after each reset."""

    places: ClassVar[list[Any]] = []

    def move(self, action):
        if self.steps == 1:
            SharesItsPlace.places = [self.x]
        self.x = SharesItsPlace.places[0]
        super().move(action)
        SharesItsPlace.places = [self.x]


@fails("seeds_differ", "np_random")
class OneStart(Sound):
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.target = np.full(1, 5.0, "f4")
        return self.observe(), self.info()


@fails("observations_stay_in_their_space", "x")
class LeavesItsSpace(Sound):
    def observe(self):
        found = super().observe()
        return {**found, "x": found["x"] + 30} if getattr(self, "steps", 0) == 5 else found


@fails("observations_are_kept", "copies")
class SharesItsArray(Sound):
    def __init__(self):
        super().__init__()
        self.shared = np.zeros(1, np.float32)

    def observe(self):
        if getattr(self, "steps", 0) < 2:
            return super().observe()
        self.shared[:] = self.x
        return {"x": self.shared, "target": self.target.copy()}


@fails("success_is_reported", "bool")
class SuccessAsNumber(Sound):
    def info(self):
        return {"is_success": float(self.is_success())}


@fails("initial_conditions_are_numbers", "as numbers")
class BeginsInWords(Sound):
    def info(self):
        return {**super().info(), "initial_condition": {"side": "left"}}


@fails("episodes_end", "60 steps")
class NeverEnds(Sound):
    def is_over(self):
        return False


@fails("wild_actions_are_harmless", "Clip")
class WeakAgainstWildActions(Sound):
    def move(self, action):
        super().move(action)
        if np.abs(action).max() > 1e5:
            self.x = self.x * np.nan


@fails("random_state_is_left_alone", "NumPy")
class DrawsGlobally(Sound):
    def move(self, action):
        np.random.rand()
        super().move(action)


@fails("closes_twice", "window")
class ClosesOnce(Sound):
    is_open = True

    def close(self):
        if not self.is_open:
            raise RuntimeError("the window is gone")
        self.is_open = False


@fails("random_actions_fail", "stricter")
class NearIsFar(Sound):
    def is_success(self):
        return getattr(self, "steps", 0) > 3


fails("factory_pickles", "module")(lambda: Sound())  # noqa: PLW0108 - what is wrong with it
SOUND = [(SoundEnv, Sound)]


class OneArray(Sound):
    """Sound too: its observation is one array, which an expert sees as ``state``."""

    def __init__(self):
        super().__init__()
        self.observation_space = gymnasium.spaces.Box(-20.0, 20.0, (2,), np.float32)

    def observe(self):
        return np.concatenate([self.x, self.target])


def expert_of_state(observation):
    state = observation["state"]
    return np.clip((state[:, 1:] - state[:, :1]) / 0.4, -1, 1)


class OneByOne:
    """An expert that remembers where its episodes began; it is told when one does."""

    first = None

    def reset(self, mask):
        assert mask.dtype == bool and mask.all()
        self.first = None

    def __call__(self, observation):
        self.first = observation["target"] if self.first is None else self.first
        return np.clip((self.first - observation["x"]) / 0.4, -1, 1)


class OneArrayEnv(SoundEnv):
    expert = staticmethod(expert_of_state)


class OneByOneEnv(SoundEnv):
    expert = OneByOne()


class VariedEnv(SoundEnv):
    variations: ClassVar[dict[str, str]] = {"stride": "factor on the length of a step"}


class Varied(Sound):
    """Says how it began, and can be varied."""

    def __init__(self, stride=1.0):
        super().__init__()
        self.stride = stride

    def move(self, action):
        super().move(self.stride * np.clip(action, -1, 1))

    def info(self):
        return {**super().info(), "initial_condition": {"target": self.target.copy()}}


class VariedInMetres(Varied):
    def __init__(self, stride=0.4):
        super().__init__(stride / 0.4)


class VariesNothing(Varied):
    def __init__(self):
        super().__init__()


SOUND_TOO = [
    (VariedEnv, Varied, "variations_are_factors"),
    (VariedEnv, Varied, "initial_conditions_are_numbers"),
    (OneArrayEnv, OneArray, "expert_succeeds"),
    (OneByOneEnv, Sound, "expert_succeeds"),
]


class LostExpert(SoundEnv):
    expert = staticmethod(lost_expert)


SUITES_THAT_FAIL = [
    (LostExpert, Sound, "expert_succeeds", "Fix the expert"),
    (VariedEnv, VariedInMetres, "variations_are_factors", "a factor on what is there"),
    (VariedEnv, VariesNothing, "variations_are_factors", "with stride=0.9"),
]
