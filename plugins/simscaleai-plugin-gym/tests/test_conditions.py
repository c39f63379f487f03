"""How each episode began, in any kind of environment."""

import json

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import batch_space
from simscaleai_plugin_gym import EvalConfig, evaluate_policy, make_vector_env
from simscaleai_plugin_gym.envs.conditions import MAX_NUMBERS, initial_condition
from toy_dot import expert

SPACE = Box(-9, 9, (1,), np.float64)


def drawn(seed):
    generator, _ = seeding.np_random(seed)
    return generator.uniform(-1, 1, 3)


class Says(gymnasium.Env):
    """Says where its object is, and shows nothing of it; ends after 1 + seed % 3 steps."""

    observation_space = action_space = SPACE

    def reset(self, *, seed=None, options=None):
        self.left = 1 + seed % 3
        x, y, z = drawn(seed)
        return np.zeros(1), {"initial_condition": {"object_x": x, "goal": np.array([y, z])}}

    def step(self, action):
        self.left -= 1
        return np.zeros(1), 0.0, self.left == 0, False, {"success": True}


class ManySay(VectorEnv):
    metadata = {"autoreset_mode": AutoresetMode.DISABLED}

    def __init__(self, num_envs):
        self.num_envs, self.left = num_envs, np.zeros(num_envs, dtype=int)
        self.single_observation_space = self.single_action_space = SPACE
        self.observation_space = self.action_space = batch_space(SPACE, num_envs)
        self.drawn = np.zeros((num_envs, 3))

    def reset(self, *, seed=None, options=None):
        for index in np.flatnonzero(options["reset_mask"]):
            self.left[index], self.drawn[index] = 1 + seed[index] % 3, drawn(seed[index])
        said = {"object_x": self.drawn[:, 0], "goal": self.drawn[:, 1:]}
        return np.zeros((self.num_envs, 1)), {"initial_condition": said}

    def step(self, actions):
        self.left -= 1
        no = np.zeros(self.num_envs, dtype=bool)
        return np.zeros((self.num_envs, 1)), 0.0 * no, self.left == 0, no, {"success": ~no}


def still(observation):
    return np.zeros_like(observation)


def test_what_the_environment_says_is_the_same_however_many_run_side_by_side():
    config = EvalConfig(seeds=[5, 3, 4, 9, 7, 2])
    one, *others = (
        evaluate_policy(env, still, config)["initial_conditions"]
        for env in (
            Says(),
            SyncVectorEnv([Says] * 4, autoreset_mode=AutoresetMode.DISABLED),
            ManySay(4),
        )
    )
    x, y, z = drawn(3)
    assert one[1] == {"object_x": x, "goal.0": y, "goal.1": z}
    assert len(one) == 6 and others == [one, one]
    assert json.loads(json.dumps(one)) == one


def test_without_that_it_is_the_first_observation_without_images():
    config = EvalConfig(n_episodes=6, num_envs=4)
    found = evaluate_policy("dot", expert, config)["initial_conditions"]
    generator, _ = seeding.np_random(10_005)
    position, goal = generator.uniform(-1, 1, (2, 2))
    assert found[5] == {
        "pos.0": position[0], "pos.1": position[1], "goal.0": goal[0], "goal.1": goal[1]
    }  # fmt: skip
    envs = make_vector_env("dot", 2, vectorization="sync", images=16)
    assert evaluate_policy(envs, expert, EvalConfig(n_episodes=6))["initial_conditions"] == found


@pytest.mark.slow  # starts processes
def test_in_processes_it_is_the_same():
    config = EvalConfig(n_episodes=5)
    one = evaluate_policy("dot", expert, config)["initial_conditions"]
    envs = make_vector_env("dot", 2, vectorization="async")
    assert evaluate_policy(envs, expert, config)["initial_conditions"] == one
    envs.close()


@pytest.mark.parametrize(
    ("observation", "info", "expected"),
    [
        (np.array([1, 2]), {}, {"state.0": 1.0, "state.1": 2.0}),
        (3, {}, {"state": 3.0}),
        (np.zeros((4, 4, 3), np.uint8), {}, {}),
        ({"a": {"b": np.float32(0.5)}, "c": [[1], [2]]}, {}, {"a_b": 0.5, "c.0": 1.0, "c.1": 2.0}),
        ((1, [2, 3]), {}, {}),
        (np.zeros(2), {"initial_condition": {"x": True, "name": "red", "far": np.inf}}, {"x": 1.0}),
        (np.zeros(1), {"initial_condition": "here"}, {"state.0": 0.0}),
        (np.zeros(1), {"initial_condition": {}}, {"state.0": 0.0}),
    ],
)
def test_numbers_have_names(observation, info, expected):
    assert initial_condition(observation, info) == expected


def test_there_are_not_too_many():
    numbers = initial_condition({"a": np.arange(60), "b": np.arange(60)}, {})
    assert len(numbers) == MAX_NUMBERS and list(numbers)[-1] == "b.3"
