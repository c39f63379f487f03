import numpy as np
import pytest
from simscaleai_plugin_gym import find_expert
from simscaleai_plugin_sim.arm_env.vector import ArmVectorEnv
from simscaleai_plugin_sim.tasks.cube import CUBE_M, REST_M
from simscaleai_plugin_sim.tasks.pick_place import (
    APART_M,
    AREA_HIGH_M,
    AREA_LOW_M,
    OPEN_M,
    PEDESTAL_M,
    RESTING_M,
    SLOW_M_S,
    TOLERANCE_M,
    YAW_RAD,
    PickPlace,
)


def drive(envs, observation, steps):
    expert = find_expert("pick_place")
    for _ in range(steps):
        observation, *_ = envs.step(expert(observation))
    return observation


def test_the_cube_starts_on_its_pedestal_apart_from_the_target():
    observation, _ = ArmVectorEnv(300, "pick_place").reset(seed=0)
    cube, target = observation["object_pos"], observation["target_pos"]
    np.testing.assert_allclose(cube[:, 2], PEDESTAL_M + REST_M)
    np.testing.assert_allclose(target[:, 2], REST_M)
    for position in (cube, target):
        assert (position[:, :2] >= AREA_LOW_M).all() and (position[:, :2] <= AREA_HIGH_M).all()
        spread = np.ptp(position[:, :2], axis=0) / (AREA_HIGH_M - AREA_LOW_M)
        assert (spread > 0.95).all()
    assert (np.linalg.norm((target - cube)[:, :2], axis=1) >= APART_M).all()
    yaw = 2 * np.arcsin(observation["object_quat"][:, 3])
    assert 0.95 * YAW_RAD < np.abs(yaw).max() <= YAW_RAD
    assert (observation["object_quat"][:, 0] > 0).all()


def test_left_alone_the_cube_stays_where_it_is():
    envs = ArmVectorEnv(4, "pick_place")
    start, _ = envs.reset(seed=0)
    for _ in range(20):
        observation, *_ = envs.step(np.tile([0.0, 0.0, 0.0, 1.0], (4, 1)))
    np.testing.assert_allclose(observation["object_pos"], start["object_pos"], atol=1e-4)


def test_the_cube_is_held_by_friction_alone():
    start, _ = ArmVectorEnv(80, "pick_place").reset(seed=0)
    far = np.flatnonzero(np.linalg.norm(start["target_rel_pos"], axis=1) > 0.28)[:4]
    envs = ArmVectorEnv(4, "pick_place", max_episode_steps=-1)
    observation, _ = envs.reset(seed=far.tolist())
    model = envs._core.arms.model
    assert model.neq == 1 and model.eq_obj1id[0] != model.eq_obj2id[0]  # the two fingers
    observation = drive(envs, observation, 13)
    assert (observation["object_pos"][:, 2] > PEDESTAL_M + REST_M + 0.005).all()
    assert (np.abs(observation["gripper_width"] - CUBE_M) < 0.004).all()
    held = observation["object_rel_pos"]
    still = np.tile([0.0, 0.0, 0.0, -1.0], (4, 1))
    for _ in range(40):
        observation, *_ = envs.step(still)
    np.testing.assert_allclose(observation["object_rel_pos"], held, atol=2e-3)
    for _ in range(10):
        observation, *_ = envs.step(np.tile([0.0, 0.0, 0.0, 1.0], (4, 1)))
    assert (observation["object_pos"][:, 2] < PEDESTAL_M + REST_M + 0.004).all()


def test_success_asks_for_all_four_conditions():
    observation = {
        "object_rel_pos": np.zeros((6, 3)),
        "target_rel_pos": np.zeros((6, 3)),
        "gripper_width": np.full((6, 1), OPEN_M + 0.001),
        "object_vel": np.zeros((6, 3)),
    }
    observation["target_rel_pos"][0] = [0.7 * TOLERANCE_M, 0.7 * TOLERANCE_M, -0.9 * RESTING_M]
    observation["target_rel_pos"][1, 1] = TOLERANCE_M + 0.001
    observation["target_rel_pos"][2, 2] = -(RESTING_M + 0.001)
    observation["gripper_width"][3] = OPEN_M - 0.001
    observation["object_vel"][4, 0] = SLOW_M_S + 0.001
    reward, success = PickPlace().judge(observation)
    np.testing.assert_array_equal(success, [True, False, False, False, False, True])
    assert reward[5] == 1.0
    assert reward[1] == pytest.approx(-TOLERANCE_M - 0.001)


def test_an_episode_ends_when_the_cube_has_been_put_down():
    envs = ArmVectorEnv(1, "pick_place")
    observation, infos = envs.reset(seed=[3])
    assert infos["privileged"]["object_vel"].shape == (1, 3)
    expert = find_expert("pick_place")
    for _ in range(100):
        observation, reward, terminated, truncated, infos = envs.step(expert(observation))
        if terminated[0]:
            break
    assert terminated[0] and not truncated[0] and infos["is_success"][0]
    offset = observation["target_rel_pos"][0]
    assert np.hypot(*offset[:2]) < TOLERANCE_M and abs(offset[2]) < RESTING_M
    assert observation["gripper_width"][0, 0] > OPEN_M and reward[0] > 0.9
    assert np.linalg.norm(infos["privileged"]["object_vel"][0]) < SLOW_M_S
