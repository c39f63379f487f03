import numpy as np
import pytest
from simscaleai_plugin_sim.physics.arm import (
    HOME_RAD,
    JOINT_HIGH_RAD,
    JOINT_LOW_RAD,
    forward_kinematics,
)
from simscaleai_plugin_sim.physics.simulation import ArmSimulation

ALL = np.arange(4)


@pytest.fixture
def arms():
    arms = ArmSimulation("", 4)
    arms.home(ALL)
    arms.settle(ALL)
    return arms


def test_the_built_arm_has_the_kinematics_of_the_table():
    rng = np.random.default_rng(0)
    n = 100
    arms = ArmSimulation("", n)
    env_ids = np.arange(n)
    arms.home(env_ids)
    joint_pos = rng.uniform(JOINT_LOW_RAD, JOINT_HIGH_RAD, (n, 7))
    arms._qpos[:, :7] = joint_pos
    arms.settle(env_ids)
    mats = arms._site_mat[:, arms._tool].reshape(n, 3, 3)
    for index in env_ids:
        pose = forward_kinematics(joint_pos[index])
        np.testing.assert_allclose(arms.tool_pos[index], pose[:3, 3], rtol=0, atol=1e-9)
        np.testing.assert_allclose(mats[index], pose[:3, :3], rtol=0, atol=1e-9)


def test_home_is_the_published_pose_with_the_gripper_down():
    pose = forward_kinematics(HOME_RAD)
    np.testing.assert_allclose(pose[:3, 3], [0.3069, 0.0, 0.4869], atol=1e-4)
    np.testing.assert_allclose(pose[:3, :3], np.diag([1.0, -1.0, -1.0]), atol=1e-12)


def test_the_masses_are_the_published_ones(arms):
    masses = [float(arms.model.body(f"link{i}").mass[0]) for i in range(1, 8)]
    np.testing.assert_allclose(masses, [4.97, 0.65, 3.23, 3.59, 1.23, 1.67, 0.74])
    assert float(arms.model.body("finger_left").mass[0]) == pytest.approx(0.015)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_unit_of_action_moves_the_tool_about_25_mm_straight(arms, axis, sign):
    action = np.zeros((4, 4))
    action[:, axis] = sign
    arms.act(action)
    before = arms.tool_pos[0]
    for _ in range(4):
        arms.act(action)
    travel_mm = 1e3 * (arms.tool_pos[0] - before) / 4
    assert 24 < sign * travel_mm[axis] < 30
    aside = np.delete(travel_mm, axis)
    assert np.abs(aside).max() < 0.12 * abs(travel_mm[axis])


def test_the_gripper_keeps_pointing_down_on_the_way(arms):
    action = np.tile([1.0, 1.0, -1.0, 1.0], (4, 1))
    for _ in range(6):
        arms.act(action)
    down = arms._site_mat[0, arms._tool].reshape(3, 3)[:, 2]
    assert down @ [0, 0, -1] > np.cos(np.radians(5))


def test_without_a_command_the_arm_stays_for_ten_seconds(arms):
    start = arms.tool_pos
    action = np.zeros((4, 4))
    for _ in range(200):
        arms.act(action)
    assert np.abs(arms.tool_pos - start).max() < 1e-3


def test_the_gripper_opens_at_1_and_closes_at_minus_1(arms):
    for command, gap in ((-1.0, 0.0), (1.0, 0.04)):
        for _ in range(20):
            arms.act(np.tile([0.0, 0.0, 0.0, command], (4, 1)))
        np.testing.assert_allclose(arms._qpos[:, 7:9], gap, atol=2e-3)


def test_actions_outside_the_bounds_are_clipped(arms):
    arms.act(np.full((4, 4), 7.0))
    clipped = arms.tool_pos
    arms.home(ALL)
    arms.settle(ALL)
    arms.act(np.ones((4, 4)))
    np.testing.assert_array_equal(clipped, arms.tool_pos)


def test_an_action_that_is_not_finite_is_refused(arms):
    with pytest.raises(ValueError, match="must be finite"):
        arms.act(np.full((4, 4), np.nan))
