import numpy as np
import pytest
from simscaleai_plugin_gym import find_expert
from simscaleai_plugin_sim.arm_env.vector import ArmVectorEnv
from simscaleai_plugin_sim.tasks.cube import REST_M
from simscaleai_plugin_sim.tasks.push import (
    AREA_HIGH_M,
    AREA_LOW_M,
    MAX_DISTANCE_M,
    MIN_DISTANCE_M,
    TOLERANCE_M,
    Push,
)


def test_the_goal_is_12_to_30_cm_away_from_the_cube():
    observation, _ = ArmVectorEnv(300, "push").reset(seed=0)
    cube, goal = observation["object_pos"], observation["target_pos"]
    np.testing.assert_allclose(cube[:, 2], REST_M)
    np.testing.assert_allclose(goal[:, 2], REST_M)
    distance = np.linalg.norm((goal - cube)[:, :2], axis=1)
    assert (distance >= MIN_DISTANCE_M).all() and (distance <= MAX_DISTANCE_M).all()
    assert np.ptp(distance) > 0.95 * (MAX_DISTANCE_M - MIN_DISTANCE_M)
    for position in (cube, goal):
        assert (position[:, :2] >= AREA_LOW_M).all() and (position[:, :2] <= AREA_HIGH_M).all()
    direction = np.arctan2(*(goal - cube)[:, 1::-1].T)
    assert (np.histogram(direction, bins=8, range=(-np.pi, np.pi))[0] > 10).all()


def test_success_is_a_horizontal_distance():
    offsets = np.zeros((3, 3))
    offsets[0] = [0.7 * TOLERANCE_M, 0.7 * TOLERANCE_M, 0.0]
    offsets[1, 0] = TOLERANCE_M + 0.001
    observation = {"object_rel_pos": np.zeros((3, 3)), "target_rel_pos": offsets}
    reward, success = Push().judge(observation)
    np.testing.assert_array_equal(success, [True, False, True])
    assert reward[1] == pytest.approx(-TOLERANCE_M - 0.001) and reward[2] == 1.0


def test_the_expert_never_lifts_the_cube():
    envs = ArmVectorEnv(16, "push", max_episode_steps=-1)
    expert = find_expert("push")
    observation, _ = envs.reset(seed=0)
    done = np.zeros(16, dtype=bool)
    highest = 0.0
    for _ in range(100):
        observation, _, success, _, _ = envs.step(expert(observation))
        done |= success
        highest = max(highest, float(observation["object_pos"][~done, 2].max(initial=0.0)))
        if done.all():
            break
        if success.any():
            observation, _ = envs.reset(options={"reset_mask": success})
    assert done.all() and highest < REST_M + 0.02


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_from_beyond_the_goal_the_expert_comes_back_behind_the_cube(side):
    envs = ArmVectorEnv(1, "push", max_episode_steps=-1)
    envs.reset(seed=0)
    arms, env_ids = envs._core.arms, np.array([0])
    arms.place_object(env_ids, np.array([[0.5, 0.0, REST_M]]))
    arms.place_marker(env_ids, np.array([[0.5, 0.18 * side, REST_M]]))
    arms.settle(env_ids)
    observation = envs._core._observe(env_ids)
    expert = find_expert("push")
    for _ in range(80):
        observation, _, success, _, _ = envs.step(expert(observation))
        if success[0]:
            break
    assert success[0]
