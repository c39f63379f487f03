import numpy as np
import pytest
from simscaleai_plugin_sim import EvalConfig, evaluate_policy, find_expert, make_vector_env


def test_the_expert_reaches_every_target_of_100_seeds():
    results = evaluate_policy("reach", find_expert("reach"), EvalConfig(n_episodes=100, seed=0))
    assert results["success_rate"] == 1.0
    assert results["mean_length"] < 12 and max(results["lengths"]) <= 20


@pytest.mark.slow
def test_the_expert_reaches_99_of_100_targets_over_500_seeds():
    results = evaluate_policy("reach", find_expert("reach"), EvalConfig(n_episodes=500))
    assert results["success_rate"] >= 0.99


def test_the_action_is_a_function_of_the_observation_row_by_row():
    envs = make_vector_env("reach", 6)
    observation, _ = envs.reset(seed=0)
    expert = find_expert("reach")
    together = expert(observation)
    assert together.shape == (6, 4) and np.abs(together).max() <= 1.0
    for slot in range(6):
        alone = expert({key: value[slot : slot + 1] for key, value in observation.items()})
        np.testing.assert_array_equal(alone[0], together[slot])
