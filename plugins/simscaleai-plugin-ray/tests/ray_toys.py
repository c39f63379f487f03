"""An environment and an expert that processes on any node can import: a point is to come home."""

import os
import time

import gymnasium
import numpy as np
from gymnasium.spaces import Box


class Home(gymnasium.Env):
    observation_space = Box(-9, 9, (2,), np.float32)
    action_space = Box(-1, 1, (2,), np.float32)

    def __init__(self, slow_s=0.0, fails_at=None, dies=False):
        self.slow_s, self.fails_at, self.dies = slow_s, fails_at, dies

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.now = seed
        self.pos = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self.pos, {}

    def step(self, action):
        time.sleep(self.slow_s)
        if self.now == self.fails_at:
            if self.dies:
                os._exit(7)
            raise ValueError("the spring broke")
        self.pos = (self.pos + 0.2 * action).astype(np.float32)
        near = bool(np.abs(self.pos).max() < 0.1)
        return self.pos, float(-np.abs(self.pos).sum()), near, False, {"is_success": near}


def expert(observation):
    return -5 * observation["state"]


gymnasium.register("Toys/Home-v0", Home, max_episode_steps=20)
