"""What holds for every task that moves a cube."""

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from simscaleai_plugin_gym import (
    EvalConfig,
    evaluate_policy,
    find_expert,
    make_env,
    make_vector_env,
)
from simscaleai_plugin_sim.arm_env.env import ArmEnv
from simscaleai_plugin_sim.arm_env.vector import ArmVectorEnv

TASKS = ("pick_place", "push")
SHAPES = {
    "joint_pos": (7,),
    "joint_vel": (7,),
    "ee_pos": (3,),
    "gripper_width": (1,),
    "object_pos": (3,),
    "object_quat": (4,),
    "target_pos": (3,),
    "object_rel_pos": (3,),
    "target_rel_pos": (3,),
}

pytestmark = pytest.mark.parametrize("task", TASKS)


def assert_same(left, right):
    assert left.keys() == right.keys()
    for key in left:
        np.testing.assert_array_equal(left[key], right[key], err_msg=key)


def noisy(expert, observation, rng):
    actions = expert(observation)
    return actions + 0.3 * rng.standard_normal(actions.shape)


def test_gymnasium_finds_nothing_to_object_to(task):
    check_env(make_env(task).unwrapped, skip_render_check=True)


def test_the_observation_is_the_documented_one(task):
    env = make_env(task)
    observation, info = env.reset(seed=0)
    assert {key: value.shape for key, value in observation.items()} == SHAPES
    assert list(observation) == list(env.observation_space)
    assert all(value.dtype == np.float64 for value in observation.values())
    assert info["is_success"] is False
    o = observation
    np.testing.assert_array_equal(o["object_rel_pos"], o["object_pos"] - o["ee_pos"])
    np.testing.assert_array_equal(o["target_rel_pos"], o["target_pos"] - o["object_pos"])
    assert o["gripper_width"] == pytest.approx(0.08)


def test_single_and_vector_are_the_same_bit_for_bit_through_contact(task):
    seeds = [11, 12, 13, 14, 15]
    rng, expert = np.random.default_rng(1), find_expert(task)
    envs = ArmVectorEnv(len(seeds), task, max_episode_steps=-1)
    batched, _ = envs.reset(seed=seeds)
    singles = [ArmEnv(task) for _ in seeds]
    for index, (env, seed) in enumerate(zip(singles, seeds, strict=True)):
        assert_same(env.reset(seed=seed)[0], {k: v[index] for k, v in batched.items()})
    start = batched["object_pos"]
    for _ in range(14):
        actions = noisy(expert, batched, rng)
        batched, rewards, terminated, _, infos = envs.step(actions)
        assert not terminated.any()
        for index, env in enumerate(singles):
            observation, reward, done, _, info = env.step(actions[index])
            assert_same(observation, {k: v[index] for k, v in batched.items()})
            assert reward == rewards[index] and done == terminated[index]
            assert info["is_success"] == infos["is_success"][index]
    assert (np.abs(batched["object_pos"] - start).max(axis=1) > 1e-3).any()


def test_an_environment_that_was_reset_goes_on_as_if_it_had_been_alone(task):
    expert = find_expert(task)
    envs, alone = ArmVectorEnv(2, task), ArmVectorEnv(1, task)
    observation, _ = envs.reset(seed=[0, 1])
    for _ in range(12):
        observation, *_ = envs.step(expert(observation))
    observation, _ = envs.reset(seed=[None, 9], options={"reset_mask": np.array([False, True])})
    single, _ = alone.reset(seed=[9])
    assert_same({k: v[1:] for k, v in observation.items()}, single)
    for _ in range(4):
        observation, *_ = envs.step(expert(observation))
        single, *_ = alone.step(expert(single))
    assert_same({k: v[1:] for k, v in observation.items()}, single)


def test_the_seed_decides_the_initial_state(task):
    left, _ = ArmVectorEnv(3, task).reset(seed=20)
    right, _ = ArmVectorEnv(3, task).reset(seed=[20, 21, 22])
    assert_same(left, right)
    assert len(np.unique(left["target_pos"][:, 0])) == 3
    assert len(np.unique(left["object_pos"][:, 0])) == 3


def test_random_actions_score_nothing_and_stay_within_the_spaces(task):
    rng = np.random.default_rng(3)
    envs = make_vector_env(task, 24)
    envs.reset(seed=0)
    for _ in range(79):
        observation, _, success, _, _ = envs.step(rng.uniform(-1, 1, (24, 4)))
        assert observation in envs.observation_space
        assert not success.any()


def test_a_cube_that_was_swept_off_the_table_stays_within_the_spaces(task):
    envs = ArmVectorEnv(1, task, max_episode_steps=-1)
    envs.reset(seed=0)
    arms = envs._core.arms
    slots = np.array([0])
    arms.place_object(slots, np.array([[0.35, 0.85, 0.3]]))
    for _ in range(60):
        observation, *_ = envs.step(np.zeros((1, 4)))
    assert observation in envs.observation_space
    assert -1.0 < observation["object_pos"][0, 2] < -0.1
    assert np.abs(arms.object_vel()).max() < 0.1


def test_the_goal_can_be_seen(task):
    env = make_env(task, images=64)
    image = env.reset(seed=0)[0]["image"].astype(int)
    env.close()
    red = (image[..., 0] > 2 * image[..., 1]) & (image[..., 0] > 2 * image[..., 2])
    blue = (image[..., 2] > 2 * image[..., 0]) & (image[..., 2] > 1.5 * image[..., 1])
    assert red.sum() >= 4 and blue.sum() >= 4


def test_the_return_tells_a_good_episode_from_an_idle_one(task):
    good = evaluate_policy(task, find_expert(task), EvalConfig(n_episodes=4, seed=0))
    idle = evaluate_policy(task, lambda o: np.zeros((4, 4)), EvalConfig(n_episodes=4, seed=0))
    assert good["mean_return"] > idle["mean_return"] and idle["success_rate"] == 0.0
