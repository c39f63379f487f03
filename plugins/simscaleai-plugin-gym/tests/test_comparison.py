import json

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box
from simscaleai_plugin_gym import EvalConfig, evaluate_policy
from simscaleai_plugin_gym.evaluate.comparison import compare

from simscaleai_core.errors import ConfigError


class Divisible(gymnasium.Env):
    """One step; successful if the seed is a multiple of the action, which is also the reward."""

    observation_space = Box(0.0, 1e6, (1,), dtype=np.float64)
    action_space = Box(1.0, 10.0, (1,), dtype=np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seed = seed
        return np.array([float(seed)]), {}

    def step(self, action):
        number = float(action[0])
        done = {"is_success": self.seed % number == 0}
        return np.zeros(1), number, True, False, done


def measured(number, **config):
    predict = lambda observation: np.array([number])  # noqa: E731
    return evaluate_policy(
        Divisible(), predict, EvalConfig(**{"n_episodes": 12, "seed": 0, **config})
    )


def test_episodes_are_compared_pair_by_pair():
    found = compare(measured(2.0), measured(3.0))
    assert found["seeds"] == list(range(12)) and found["n_episodes"] == 12
    # 0 and 6 by both; 2, 4, 8, 10 by two only; 3, 9 by three only; 1, 5, 7, 11 by neither
    assert (found["both"], found["only_first"], found["only_second"], found["neither"]) == (
        2,
        4,
        2,
        4,
    )
    assert found["n_discordant"] == 6 and found["difference"] == pytest.approx(-2 / 12)
    low, high = found["difference_ci95"]
    assert -0.6 < low < found["difference"] < 0.0 < high < 0.4
    assert found["p_value"] == pytest.approx(2 * (1 + 6 + 15) / 64)
    assert found["mean_return_difference"] == 1.0
    assert found["mean_return_difference_ci95"] == [1.0, 1.0]
    assert found["first"]["success_rate"] == 0.5


def test_a_policy_against_itself_differs_nowhere():
    found = compare(measured(2.0), measured(2.0))
    assert found["difference"] == 0.0 and found["p_value"] == 1.0
    assert found["difference_ci95"][0] < 0.0 < found["difference_ci95"][1]


def test_turned_round_the_sign_turns():
    there, back = compare(measured(2.0), measured(3.0)), compare(measured(3.0), measured(2.0))
    assert there["difference"] == -back["difference"]
    low, high = back["difference_ci95"]
    assert there["difference_ci95"] == pytest.approx([-high, -low])
    assert there["p_value"] == back["p_value"]


def test_the_comparison_is_plain_json():
    found = compare(measured(2.0), measured(3.0))
    assert json.loads(json.dumps(found)) == found


def test_other_seeds_cannot_be_compared():
    with pytest.raises(
        ConfigError, match=r"the same seeds, got 12 from 0 to 11 and 12 from 5 to 16"
    ):
        compare(measured(2.0), measured(2.0, seed=5))
