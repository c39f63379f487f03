"""A dot is to come to its goal on a square: one environment, or a batch of them."""

from typing import ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from simscaleai_core.errors import ConfigError

MAX_STEPS = 50
STEP = 0.1


def expert(observation):
    return np.clip((observation["goal"] - observation["pos"]) / STEP, -1, 1)


def image_options(keys, size, given):
    if "images" in given or not keys:
        return {"images": 0}
    if list(keys) != ["image"]:
        raise ConfigError(f"the policy sees {', '.join(keys)}: expected image")
    return {"images": size[0]}


def picture(pos, side):
    drawn = np.zeros((side, side, 3), dtype=np.uint8)
    row, column = ((np.clip(pos, -1.5, 1.5) + 2) / 4 * side).astype(int)
    drawn[row - side // 8 : row + side // 8, column - side // 8 : column + side // 8] = 255
    return drawn


def space(images):
    pair = Box(-9, 9, (2,), np.float64)
    image = {"image": Box(0, 255, (images, images, 3), np.uint8)} if images else {}
    return Dict(pos=pair, goal=pair, **image)


def judge(pos, goal):
    distance = np.abs(goal - pos).max(axis=-1)
    done = distance < STEP / 2
    return done - distance, done


class DotEnv(gymnasium.Env):
    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 20}

    def __init__(self, images=0, render_mode=None, stride=1.0):
        self.images, self.render_mode, self.stride = images, render_mode, stride
        self.observation_space, self.action_space = space(images), Box(-1, 1, (2,), np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.pos, self.goal = self.np_random.uniform(-1, 1, (2, 2))
        return self.observe(), {"is_success": False}

    def step(self, action):
        self.pos = self.pos + self.stride * STEP * action
        reward, done = judge(self.pos, self.goal)
        return self.observe(), float(reward), bool(done), False, {"is_success": bool(done)}

    def observe(self):
        seen = {"pos": self.pos.copy(), "goal": self.goal.copy()}
        return seen | ({"image": picture(self.pos, self.images)} if self.images else {})

    def render(self):
        return picture(self.pos, 480) if self.render_mode else None


class DotVectorEnv(VectorEnv):
    metadata: ClassVar = {"autoreset_mode": AutoresetMode.DISABLED, "render_fps": 20}

    def __init__(self, num_envs=1, *, images=0, max_episode_steps=None, stride=1.0):
        self.stride = stride
        self.num_envs, self.images, self.limit = num_envs, images, max_episode_steps or MAX_STEPS
        self.single_observation_space = space(images)
        self.single_action_space = Box(-1, 1, (2,), np.float64)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.pos, self.goal = np.zeros((2, num_envs, 2))
        self.elapsed = np.zeros(num_envs, dtype=int)

    def reset(self, *, seed=None, options=None):
        for index in np.flatnonzero((options or {}).get("reset_mask", np.ones(self.num_envs))):
            generator, _ = seeding.np_random(seed[index])
            self.pos[index], self.goal[index] = generator.uniform(-1, 1, (2, 2))
            self.elapsed[index] = 0
        return self.observe(), {"is_success": np.zeros(self.num_envs, dtype=bool)}

    def step(self, actions):
        self.pos = self.pos + self.stride * STEP * actions
        self.elapsed += 1
        reward, done = judge(self.pos, self.goal)
        return self.observe(), reward, done, self.elapsed >= self.limit, {"is_success": done}

    def observe(self):
        seen = {"pos": self.pos.copy(), "goal": self.goal.copy()}
        if self.images:
            seen["image"] = np.stack([picture(pos, self.images) for pos in self.pos])
        return seen


def make_dot(**options):
    return gymnasium.make("Toys/Dot-v0", disable_env_checker=True, **options)


def make_cart(length=1):
    return gymnasium.make("CartPole-v1")


if "Toys/Dot-v0" not in gymnasium.registry:
    gymnasium.register(
        "Toys/Dot-v0", DotEnv, vector_entry_point=DotVectorEnv, max_episode_steps=MAX_STEPS
    )
