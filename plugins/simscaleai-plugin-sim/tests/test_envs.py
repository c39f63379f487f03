import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from simscaleai_plugin_gym import make_env, make_vector_env
from simscaleai_plugin_sim.arm_env.env import ArmEnv
from simscaleai_plugin_sim.arm_env.vector import ArmVectorEnv
from simscaleai_plugin_sim.tasks.reach import TARGET_HIGH_M, TARGET_LOW_M, TOLERANCE_M, Reach

from simscaleai_core.errors import ConfigError


def assert_same(left, right):
    assert left.keys() == right.keys()
    for key in left:
        np.testing.assert_array_equal(left[key], right[key], err_msg=key)


def test_gymnasium_finds_nothing_to_object_to():
    check_env(make_env("reach").unwrapped, skip_render_check=True)


def test_the_observation_is_the_documented_one():
    env = make_env("reach")
    observation, info = env.reset(seed=0)
    shapes = {key: value.shape for key, value in observation.items()}
    assert shapes == {"joint_pos": (7,), "joint_vel": (7,), "ee_pos": (3,), "target_pos": (3,)}
    assert all(value.dtype == np.float64 for value in observation.values())
    assert list(env.observation_space) == list(observation)
    assert info.pop("initial_condition").keys() == {"target_x", "target_y", "target_z"}
    assert info == {"is_success": False}


def test_random_actions_stay_within_the_spaces():
    envs = ArmVectorEnv(16, max_episode_steps=-1)
    rng = np.random.default_rng(3)
    envs.reset(seed=0)
    for _ in range(150):
        observation, _, success, _, _ = envs.step(rng.uniform(-1, 1, (16, 4)))
        assert observation in envs.observation_space
        if success.any():
            envs.reset(options={"reset_mask": success})


def test_an_episode_depends_on_its_seed_and_actions_only():
    env = make_env("reach")
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (10, 4))

    def play(seed):
        first, _ = env.reset(seed=seed)
        return [first] + [env.step(action)[0] for action in actions]

    once = play(5)
    play(6)
    for left, right in zip(once, play(5), strict=True):
        assert_same(left, right)


def test_targets_cover_the_box():
    envs = ArmVectorEnv(300)
    targets = envs.reset(seed=0)[0]["target_pos"]
    assert (targets >= TARGET_LOW_M).all() and (targets <= TARGET_HIGH_M).all()
    spread = (targets.max(axis=0) - targets.min(axis=0)) / (TARGET_HIGH_M - TARGET_LOW_M)
    assert (spread > 0.95).all()


def test_single_and_vector_are_the_same_bit_for_bit():
    seeds = [11, 12, 13, 14, 15]
    rng = np.random.default_rng(1)
    actions = rng.uniform(-1, 1, (20, len(seeds), 4))
    envs = ArmVectorEnv(len(seeds), max_episode_steps=-1)
    batched, _ = envs.reset(seed=seeds)
    singles = [ArmEnv() for _ in seeds]
    for index, (env, seed) in enumerate(zip(singles, seeds, strict=True)):
        assert_same(env.reset(seed=seed)[0], {k: v[index] for k, v in batched.items()})
    for action in actions:
        batched, rewards, terminated, _, infos = envs.step(action)
        for index, env in enumerate(singles):
            observation, reward, done, _, info = env.step(action[index])
            assert_same(observation, {k: v[index] for k, v in batched.items()})
            assert reward == rewards[index] and done == terminated[index]
            assert info["is_success"] == infos["is_success"][index]


def test_a_masked_reset_leaves_the_other_environments_alone():
    envs = ArmVectorEnv(4)
    envs.reset(seed=[0, 1, 2, 3])
    before, *_ = envs.step(np.full((4, 4), 0.5))
    mask = np.array([False, True, False, True])
    after, infos = envs.reset(seed=[None, 77, None, 78], options={"reset_mask": mask})
    for key in before:
        np.testing.assert_array_equal(before[key][~mask], after[key][~mask])
    fresh, _ = ArmVectorEnv(1).reset(seed=[78])
    assert_same({k: v[3] for k, v in after.items()}, {k: v[0] for k, v in fresh.items()})
    np.testing.assert_array_equal(infos["_is_success"], mask)


def test_an_environment_that_was_reset_goes_on_as_if_it_had_been_alone():
    envs = ArmVectorEnv(2)
    action = np.full((2, 4), -0.3)
    envs.reset(seed=[0, 1])
    for _ in range(3):
        envs.step(action)
    envs.reset(seed=[None, 9], options={"reset_mask": np.array([False, True])})
    for _ in range(3):
        refilled, *_ = envs.step(action)
    alone = ArmEnv()
    alone.reset(seed=9)
    for _ in range(3):
        observation, *_ = alone.step(action[0])
    assert_same(observation, {k: v[1] for k, v in refilled.items()})


def test_without_a_seed_the_random_stream_goes_on():
    envs = ArmVectorEnv(1)
    first = envs.reset(seed=3)[0]["target_pos"]
    second = envs.reset()[0]["target_pos"]
    assert not np.array_equal(first, second)
    env = ArmEnv()
    env.reset(seed=3)
    np.testing.assert_array_equal(env.reset()[0]["target_pos"], second[0])


def test_an_int_seed_means_one_more_per_environment():
    left, _ = ArmVectorEnv(3).reset(seed=20)
    right, _ = ArmVectorEnv(3).reset(seed=[20, 21, 22])
    assert_same(left, right)


def test_the_episode_ends_at_the_target_with_one_more_reward():
    env = make_env("reach")
    observation, _ = env.reset(seed=0)
    for _ in range(50):
        batch = {key: value[None] for key, value in observation.items()}
        observation, reward, terminated, truncated, info = env.step(Reach.expert(batch)[0])
        distance = np.linalg.norm(observation["target_pos"] - observation["ee_pos"])
        assert info["is_success"] == terminated == (distance < TOLERANCE_M)
        assert reward == pytest.approx(float(terminated) - distance)
        if terminated:
            break
    assert terminated and not truncated


@pytest.mark.parametrize(("options", "steps"), [({}, 50), ({"max_episode_steps": 7}, 7)])
def test_an_episode_is_cut_off_after_its_longest_length(options, steps):
    env = make_env("reach", **options)
    envs = make_vector_env("reach", 2, **options)
    env.reset(seed=0)
    envs.reset(seed=0)
    away = np.array([-1.0, 0.0, 1.0, 1.0])
    for step in range(1, steps + 1):
        truncated = env.step(away)[3]
        truncations = envs.step(np.tile(away, (2, 1)))[3]
        assert truncated == truncations.all() == (step == steps)


def test_an_environment_whose_episode_has_ended_must_be_reset():
    envs = ArmVectorEnv(2, max_episode_steps=1)
    with pytest.raises(ResetNeeded, match=r"environments \[0, 1\] have no running episode"):
        envs.step(np.zeros((2, 4)))
    envs.reset(seed=0)
    envs.step(np.zeros((2, 4)))
    envs.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(ResetNeeded, match=r"environments \[1\]"):
        envs.step(np.zeros((2, 4)))


def test_what_is_returned_does_not_change_later():
    envs = ArmVectorEnv(2)
    first, _ = envs.reset(seed=0)
    kept = {key: value.copy() for key, value in first.items()}
    mask_given = np.array([True, False])
    envs.step(np.ones((2, 4)))
    envs.reset(options={"reset_mask": mask_given})
    assert_same(first, kept)
    np.testing.assert_array_equal(mask_given, [True, False])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": [1, 2, 3]}, "expected 2 seeds, one per environment, got 3"),
        ({"options": {"reset_mask": np.array([True])}}, r"expected bool \[2\]"),
        ({"options": {"reset_mask": np.array([1, 0])}}, "with at least one True, got int64"),
        ({"options": {"reset_mask": np.array([False, False])}}, "at least one True"),
    ],
)
def test_a_reset_that_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ArmVectorEnv(2).reset(**arguments)


def test_numbers_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="num_envs: expected at least 1, got 0"):
        ArmVectorEnv(0)
    with pytest.raises(ConfigError, match="images: expected 1 to 1024 pixels, or 0, got 5000"):
        ArmEnv(images=5000)
    with pytest.raises(ConfigError, match=r"unknown task 'reech'\. Tasks: .*, reach,"):
        ArmEnv("reech")


def test_gymnasium_makes_both_forms():
    env = gymnasium.make("simscaleai_plugin_sim.envs:SimScale/Reach-v0")
    assert isinstance(env.unwrapped, ArmEnv)
    envs = gymnasium.make_vec("SimScale/Reach-v0", num_envs=3)
    assert isinstance(envs, ArmVectorEnv) and envs.num_envs == 3
    assert envs.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    env.close()
    env.close()
    envs.close()
    envs.close()


@pytest.mark.parametrize("steps", [0, -5, 1.5, float("nan"), ""])
def test_a_length_out_of_range_is_refused(steps):
    with pytest.raises(ConfigError, match="max_episode_steps: expected at least 1, or -1, got"):
        make_vector_env("reach", 2, max_episode_steps=steps)
    with pytest.raises(ConfigError):
        make_env("reach", max_episode_steps=steps)


@pytest.mark.parametrize("images", [True, 1.5, "64", "", float("nan"), 10**30])
def test_an_image_size_out_of_range_is_refused(images):
    with pytest.raises(ConfigError, match="images: expected 1 to 1024 pixels, or 0, got"):
        make_vector_env("reach", 2, images=images)


@pytest.mark.parametrize("phrasing", ["", 0, "loud"])
def test_a_phrasing_that_there_is_none_of_is_refused(phrasing):
    with pytest.raises(ConfigError, match="phrasing: expected one of seen, unseen, all, got"):
        make_vector_env("reach_language", 2, phrasing=phrasing)
