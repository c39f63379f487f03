import numpy as np
import pytest
from simscaleai_plugin_gym import EvalConfig, evaluate_policy, find_expert, make_vector_env

TASKS = ("reach", "pick_place", "push")


def test_the_expert_reaches_every_target_of_100_seeds():
    results = evaluate_policy("reach", find_expert("reach"), EvalConfig(n_episodes=100, seed=0))
    assert results["success_rate"] == 1.0
    assert results["mean_length"] < 12 and max(results["lengths"]) <= 20


@pytest.mark.parametrize("task", ["pick_place", "push"])
def test_the_expert_moves_the_cube_on_40_seeds(task):
    results = evaluate_policy(task, find_expert(task), EvalConfig(n_episodes=40, seed=0))
    assert results["success_rate"] == 1.0
    assert results["mean_length"] < 45 and max(results["lengths"]) <= 60


@pytest.mark.slow
@pytest.mark.parametrize(("task", "least"), [("reach", 0.99), ("pick_place", 0.99), ("push", 0.98)])
def test_the_expert_keeps_its_promise_over_500_seeds(task, least):
    results = evaluate_policy(task, find_expert(task), EvalConfig(n_episodes=500))
    assert results["success_rate"] >= least


@pytest.mark.parametrize("task", TASKS)
def test_the_action_is_a_function_of_the_observation_row_by_row(task):
    envs = make_vector_env(task, 6)
    observation, _ = envs.reset(seed=0)
    expert = find_expert(task)
    for _ in range(4 if task == "reach" else 12):
        together = expert(observation)
        assert together.shape == (6, 4) and np.abs(together).max() <= 1.0
        for index in range(6):
            alone = expert({key: value[index : index + 1] for key, value in observation.items()})
            np.testing.assert_array_equal(alone[0], together[index])
        observation, *_ = envs.step(together)


@pytest.mark.parametrize("task", ["pick_place", "push"])
def test_the_expert_copes_with_noise_on_its_actions(task):
    rng, expert = np.random.default_rng(0), find_expert(task)
    envs = make_vector_env(task, 16, max_episode_steps=-1)
    observation, _ = envs.reset(seed=0)
    done = np.zeros(16, dtype=bool)
    for _ in range(60):
        actions = expert(observation)
        actions += 0.3 * rng.standard_normal(actions.shape)
        observation, _, success, _, _ = envs.step(actions)
        done |= success
        if success.any():
            observation, _ = envs.reset(options={"reset_mask": success})
    assert done.mean() >= 0.8
