"""Environments and experts that other processes can import; a point is to come to its goal."""

import os
import time
from typing import ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Tuple
from simscaleai_plugin_gym import per_env

COLOURS = ("red", "blue", "green")


class Point(gymnasium.Env):
    metadata: ClassVar = {"render_modes": [], "render_fps": 12}

    def __init__(self, form="box", slow_s=0.0, reachable=1.0, reports=True):
        self.form, self.slow_s, self.reachable, self.reports = form, slow_s, reachable, reports
        pair, whole = Box(-9, 9, (2,), np.float32), Box(-9, 9, (4,), np.float32)
        image = Box(0, 255, (8, 8, 3), np.uint8)
        self.observation_space = {
            "box": whole,
            "goal": Dict(observation=pair, achieved_goal=pair, desired_goal=pair),
            "nested": Dict(robot=Dict(pos=pair), goal=pair),
            "clash": Dict(robot=Dict(pos=pair), robot_pos=pair),
            "image": image,
            "tuple": Dict(robot=Tuple([pair])),
        }[form]
        self.action_space = Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.pos = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        self.goal = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        self.lucky = self.np_random.random() < self.reachable
        return self.observe(), {}

    def observe(self):
        return {
            "box": np.concatenate([self.pos, self.goal]),
            "goal": {"observation": self.pos, "achieved_goal": self.pos, "desired_goal": self.goal},
            "nested": {"robot": {"pos": self.pos}, "goal": self.goal},
            "clash": {"robot": {"pos": self.pos}, "robot_pos": self.pos},
            "image": np.full((8, 8, 3), 100 * (1 + self.pos[0]), np.uint8),
        }[self.form]

    def step(self, action):
        time.sleep(self.slow_s)
        self.pos = (self.pos + 0.2 * action).astype(np.float32)
        near = bool(np.abs(self.goal - self.pos).max() < 0.05)
        info = {"is_success": near and self.lucky} if self.reports else {}
        return self.observe(), float(-np.abs(self.goal - self.pos).sum()), near, False, info


class Balls(gymnasium.Env):
    """The instruction names one of three balls; where they are is privileged."""

    def __init__(self):
        self.observation_space = Dict(
            pos=Box(-9, 9, (2,), np.float64), image=Box(0, 255, (48, 48, 3), np.uint8)
        )
        self.action_space = Box(-1, 1, (2,), np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.pos = np.zeros(2)
        self.balls = self.np_random.uniform(-1, 1, (3, 2))
        self.index = int(self.np_random.integers(3))
        self.image = self.np_random.integers(0, 256, (48, 48, 3), dtype=np.uint8)
        return {"pos": self.pos, "image": self.image}, self.info()

    def info(self):
        state = {"balls": self.balls.copy(), "index": self.index}
        return {"language": f"go to {COLOURS[self.index]}", "privileged": state}

    def step(self, action):
        self.pos = self.pos + 0.2 * action
        near = bool(np.abs(self.balls[self.index] - self.pos).max() < 0.05)
        return {"pos": self.pos, "image": self.image}, 0.0, near, False, {
            **self.info(), "is_success": near
        }  # fmt: skip


class Follow:
    """Goes where the instruction says."""

    def __call__(self, observation, shift=0):
        index = (observation["index"] + shift) % 3
        target = observation["balls"][np.arange(len(index)), index]
        return np.clip(5 * (target - observation["pos"]), -1, 1)

    def relabelled(self, observation):
        return [
            ([f"go to {COLOURS[(i + s) % 3]}" for i in observation["index"]], self(observation, s))
            for s in (1, 2)
        ]


class Doubt(Follow):
    """Does not know any more what it would do under other instructions, once it is on the way."""

    def relabelled(self, observation):
        gone = np.abs(observation["pos"]).max(axis=1, keepdims=True) > 0.3
        (first, actions), (second, others) = super().relabelled(observation)
        return [(first, np.where(gone, np.nan, actions)), (second, others * np.nan)]


class Button(gymnasium.Env):
    observation_space, action_space = Box(-1, 1, (2,)), Discrete(3)


def go(observation):
    if "state" in observation:
        return 5 * (observation["state"][:, 2:] - observation["state"][:, :2])
    if "robot" in observation:
        return 5 * (observation["goal"] - observation["robot"]["pos"])
    return 5 * (observation["desired_goal"] - observation["achieved_goal"])


def go_single(observation):
    assert observation["state"].shape == (4,)
    return 5 * (observation["state"][2:] - observation["state"][:2])


@per_env
class Patient:
    """Waits for three steps; remembers how long it has."""

    def __init__(self):
        self.waited = 0

    def __call__(self, observation):
        self.waited += 1
        return go_single(observation) * (self.waited > 3)


def still(observation):
    return np.zeros((len(observation["image"]), 2))


def wide(observation):
    return np.zeros((len(observation["state"]), 3))


def nan_here(observation):
    return np.where(observation["state"][:, :1] > 0, np.nan, go(observation))


def lost(observation, unknown=np.nan):
    """Does not know what to do far from the middle; an episode begins within 1 of it."""
    far = np.abs(observation["state"][:, :2]).max(axis=1, keepdims=True) > 1.2
    return np.where(far, unknown, go(observation))


def gives_up(observation):
    if np.abs(observation["state"][:, :2]).max() > 1.2:
        raise ValueError("too far")
    return go(observation)


def arrived(observation, reward, terminated, truncated, info):
    return reward > -0.3


def breaks(observation):
    if (observation["state"][:, 2] > 0.5).any():
        raise ZeroDivisionError("a goal on the right")
    return go(observation)


def breaks_single(observation):
    if observation["state"][2] > 0.5:
        raise ZeroDivisionError("a goal on the right")
    return go_single(observation)


def dies(observation):
    os._exit(7)


follow = Follow()
doubt = Doubt()
number = 3

for _name, _kind, _limit in (("Point", Point, 30), ("Endless", Point, None), ("Balls", Balls, 40),
                             ("Button", Button, 30)):  # fmt: skip
    gymnasium.register(f"Toys/{_name}-v0", _kind, max_episode_steps=_limit)
