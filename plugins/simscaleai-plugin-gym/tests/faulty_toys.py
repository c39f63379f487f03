"""An environment that does one thing wrong at one place; other processes can import it."""

import os
import signal
import sys
import time
from multiprocessing import parent_process
from typing import ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

FAULTY = "faulty_toys:Toys/Faulty-v0"
HANG_S = 600.0


class UnpicklableError(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} {second}")
        self.handle = sys.stderr


def swallow():
    """Hang, and hold on to it."""
    while True:
        try:
            time.sleep(HANG_S)
        except Exception:
            continue


def raise_(error):
    raise error


ANYWHERE = {
    "raise": lambda: raise_(ValueError("the spring\nbroke")),
    "unpicklable": lambda: raise_(UnpicklableError("the", "cable")),
    "exit": lambda: sys.exit(3),
    "sleep": lambda: time.sleep(HANG_S),
    "swallow": swallow,
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stopped": lambda: os.kill(os.getpid(), signal.SIGSTOP),
}
STEP = {
    "nan": lambda seen, info: ({**seen, "pos": seen["pos"] * np.nan}, 0.0, False, False, info),
    "infinite": lambda seen, info: ({**seen, "pos": seen["pos"] + np.inf}, 0.0, False, False, info),
    "nan reward": lambda seen, info: (seen, float("nan"), False, False, info),
    "infinite reward": lambda seen, info: (seen, np.float32("inf"), False, False, info),
    "no reward": lambda seen, info: (seen, None, False, False, info),
    "text reward": lambda seen, info: (seen, "1", False, False, info),
    "two rewards": lambda seen, info: (seen, np.zeros(2), False, False, info),
    "shape": lambda seen, info: ({**seen, "pos": np.zeros((1, 2))}, 0.0, False, False, info),
    "size": lambda seen, info: ({**seen, "pos": np.zeros(3)}, 0.0, False, False, info),
    "type": lambda seen, info: ({**seen, "image": np.zeros((4, 4, 3))}, 0.0, False, False, info),
    "text": lambda seen, info: ({**seen, "pos": ["a", "b"]}, 0.0, False, False, info),
    "ragged": lambda seen, info: ({**seen, "pos": [[1], [2, 3]]}, 0.0, False, False, info),
    "key": lambda seen, info: ({"pos": seen["pos"]}, 0.0, False, False, info),
    "array": lambda seen, info: (seen["pos"], 0.0, False, False, info),
    "four": lambda seen, info: (seen, 0.0, False, info),
    "nothing": lambda seen, info: None,
    "terminated": lambda seen, info: (seen, 0.0, None, False, info),
    "truncated": lambda seen, info: (seen, 0.0, False, 7, info),
    "info": lambda seen, info: (seen, 0.0, False, False, None),
}
RESET = {
    "nan": lambda seen: ({**seen, "pos": seen["pos"] * np.nan}, {}),
    "shape": lambda seen: ({**seen, "pos": np.zeros((1, 2))}, {}),
    "array": lambda seen: seen["pos"],
    "nothing": lambda seen: None,
    "info": lambda seen: (seen, "text"),
}


class Faulty(gymnasium.Env):
    """Fails by `fault` at `place`: in a process only, if `there`; steps, at `step` of seed `seed`."""

    observation_space = Dict(
        pos=Box(-9, 9, (2,), np.float64), image=Box(0, 255, (4, 4, 3), np.uint8)
    )
    action_space = Box(-1, 1, (2,), np.float64)

    def __init__(self, fault="", place="step", seed=1, step=2, limit=4, there=False):
        self.fault, self.place = fault, place if fault else "nowhere"
        self.seed, self.at, self.limit = seed, step, limit
        if self.place == "construction" and (not there or parent_process() is not None):
            ANYWHERE[fault]()

    def observe(self):
        return {"pos": np.zeros(2), "image": np.zeros((4, 4, 3), np.uint8)}

    def reset(self, *, seed=None, options=None):
        self.now, self.time = seed, 0
        if self.place == "reset" and seed == self.seed:
            return RESET[self.fault](self.observe()) if self.fault in RESET else self.fail()
        return self.observe(), {}

    def step(self, action):
        self.time += 1
        info = {"is_success": True}
        if self.place == "step" and (self.now, self.time) == (self.seed, self.at):
            return STEP[self.fault](self.observe(), info) if self.fault in STEP else self.fail()
        return self.observe(), 1.0, False, self.time == self.limit, info

    def fail(self):
        return ANYWHERE[self.fault]()

    @property
    def task_description(self):
        return self.fail() if self.place == "attribute" else ""

    def close(self):
        if self.place == "close":
            self.fail()


BATCH = {
    "nan": lambda seen, n: (np.where(np.arange(n)[:, None] == 1, np.nan, seen), *rest(n)),
    "shape": lambda seen, n: (seen[:, :1], *rest(n)),
    "rows": lambda seen, n: (seen[:1], *rest(n)),
    "reward": lambda seen, n: (seen, np.where(np.arange(n) == 1, np.inf, 0.0), *rest(n)[1:]),
    "one reward": lambda seen, n: (seen, 0.0, *rest(n)[1:]),
    "flags": lambda seen, n: (seen, np.zeros(n), np.full(n, 2), *rest(n)[2:]),
    "four": lambda seen, n: (seen, *rest(n)[:3]),
}


def rest(n):
    return np.zeros(n), np.zeros(n, bool), np.zeros(n, bool), {"is_success": np.ones(n, bool)}


class FaultyBatch(VectorEnv):
    """A batch of its own that fails at the second step."""

    metadata: ClassVar = {"autoreset_mode": AutoresetMode.DISABLED}

    def __init__(self, num_envs=1, fault="", place="step"):
        self.num_envs, self.fault, self.place = num_envs, fault, place
        self.single_observation_space = Box(-9, 9, (2,), np.float64)
        self.single_action_space = Box(-1, 1, (2,), np.float64)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        if place == "construction":
            ANYWHERE[fault]()

    def reset(self, *, seed=None, options=None):
        self.time = 0
        return ANYWHERE[self.fault]() if self.place == "reset" else (self.observe(), {})

    def observe(self):
        return np.zeros((self.num_envs, 2))

    def step(self, actions):
        self.time += 1
        if self.time < 2:
            return self.observe(), *rest(self.num_envs)
        if self.fault in BATCH:
            return BATCH[self.fault](self.observe(), self.num_envs)
        return ANYWHERE[self.fault]()


def expert(observation):
    return np.zeros_like(observation["pos"])


class Spaceless(gymnasium.Env):
    def __init__(self):
        """Forget the spaces."""


gymnasium.register("Toys/Faulty-v0", Faulty, vector_entry_point=FaultyBatch)
gymnasium.register("Toys/Spaceless-v0", Spaceless)
for _name, _fault in (("Breaks", "raise"), ("Hangs", "sleep"), ("Dies", "killed")):
    # In the second episode of the evaluations of a training run.
    gymnasium.register(f"Toys/{_name}-v0", Faulty, kwargs={"fault": _fault, "seed": 20_001})
