"""The arm's environments as recorder and evaluator use them: batch, cameras, experts, video."""

import gymnasium
import h5py
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv
from simscaleai_plugin_gym import (
    EvalConfig,
    evaluate_policy,
    find_expert,
    make_env,
    make_vector_env,
    record_episodes,
)
from simscaleai_plugin_gym.envs.catalog import env_rows
from simscaleai_plugin_gym.envs.construction import default_num_envs
from simscaleai_plugin_gym.evaluate.closed_loop import ClosedLoop
from simscaleai_plugin_gym.evaluate.image_inputs import check_images, env_options
from simscaleai_plugin_gym.options import ClosedLoopOptions
from simscaleai_plugin_gym.video.frames import drawn_episode, strip_of
from simscaleai_plugin_sim.arm_env.env import ArmEnv
from simscaleai_plugin_sim.arm_env.vector import ArmVectorEnv
from simscaleai_plugin_sim.tasks import TASKS

from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import ConfigError

pytestmark = pytest.mark.slow

EXPERT = find_expert("reach")
TIMES = {"wall_s", "predict_ms", "policy_share", "env_share", "physics_share"}


def without_time(results):
    assert set(results) >= TIMES
    return {key: value for key, value in results.items() if key not in TIMES}


class Policy:
    """The expert as a trained policy: acts in single and in vector environments."""

    def __init__(self, **hparams):
        self.hparams = hparams
        self.shapes = set()

    def predict(self, observation):
        self.shapes |= {v.shape for v in observation.values() if v.dtype == np.uint8}
        is_single = observation["ee_pos"].ndim == 1
        batch = {k: v[None] if is_single else v for k, v in observation.items()}
        actions = EXPERT(batch)
        return actions[0] if is_single else actions


@pytest.fixture(scope="module")
def reference():
    env = make_env("reach")
    return without_time(evaluate_policy(env, Policy().predict, EvalConfig(n_episodes=40)))


@pytest.mark.parametrize("name", ["reach", "sim/reach", "SimScale/Reach-v0"])
def test_each_name_is_the_same_environment_with_its_batch(name):
    assert isinstance(make_env(name).unwrapped, ArmEnv)
    assert isinstance(make_vector_env(name, 2), ArmVectorEnv)
    assert isinstance(make_vector_env(name, 2, vectorization="sync"), SyncVectorEnv)
    assert default_num_envs(name) == 32
    assert find_expert(name) is EXPERT


def test_its_module_registers_the_gymnasium_id():
    env = make_env("simscaleai_plugin_sim.envs:SimScale/Push-v0")
    assert isinstance(env.unwrapped, ArmEnv)


def test_every_task_is_listed_with_an_expert():
    rows = {row["name"]: row for row in env_rows()}
    assert set(rows) >= set(TASKS)
    for name, task in TASKS.items():
        assert rows[name]["gymnasium_id"] == task.env_id
        assert rows[name]["summary"] and rows[name]["expert"] == "yes"
        assert callable(find_expert(name))


@pytest.mark.parametrize("num_envs", [1, 7, 32, 64])
def test_results_do_not_depend_on_the_number_of_environments(reference, num_envs):
    by_name = evaluate_policy("reach", EXPERT, EvalConfig(n_episodes=40, num_envs=num_envs))
    assert without_time(by_name) == reference


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_in_turn_and_in_processes_it_gives_the_same_as_in_one_batch(reference, vectorization):
    envs = make_vector_env("reach", 2, vectorization=vectorization)
    results = evaluate_policy(envs, EXPERT, EvalConfig(n_episodes=10))
    envs.close()
    for key in ("successes", "lengths", "returns"):
        assert results[key] == reference[key][:10]


def test_a_wrapped_batch_is_taken(reference):
    envs = gymnasium.wrappers.vector.RecordEpisodeStatistics(make_vector_env("reach", 4))
    assert without_time(evaluate_policy(envs, EXPERT, EvalConfig(n_episodes=40))) == reference


def test_time_in_physics_is_counted():
    results = evaluate_policy("reach", EXPERT, EvalConfig(n_episodes=8))
    assert 0.0 < results["physics_share"] <= results["env_share"]


@pytest.mark.parametrize("name", ["reach", "reach_language"])
def test_seeds_are_obeyed(name):
    config = EvalConfig(n_episodes=2, max_steps=2)
    envs = make_vector_env(name, 2)
    results = evaluate_policy(envs, lambda observation: np.zeros((2, 4)), config)
    envs.close()
    assert results["seeds_obeyed"] is True


def test_images_come_from_the_policy():
    policy = Policy(image_keys=["image"], image_size=[32, 32])
    ClosedLoop(TrainConfig(env="reach"), ClosedLoopOptions(episodes=2))(policy)
    assert policy.shapes == {(2, 32, 32, 3)}


@pytest.mark.parametrize("keys", [["image"], ["wrist_image"], ["image", "wrist_image"], []])
def test_the_declared_options_show_the_images(keys):
    policy = Policy(image_keys=keys, image_size=32)
    envs = make_vector_env("reach", 1, **env_options(policy, "reach", {}))
    spaces = envs.single_observation_space.spaces
    check_images(policy, envs.single_observation_space, "reach")
    envs.close()
    assert {key for key, space in spaces.items() if len(space.shape) == 3} == set(keys)


def test_images_that_it_cannot_show_are_refused():
    with pytest.raises(ConfigError, match=r"expected square ones, got \(64, 48\) pixels"):
        env_options(Policy(image_keys=["image"], image_size=[64, 48]), "reach", {})
    with pytest.raises(ConfigError, match="the policy sees top: expected images of image, wrist"):
        env_options(Policy(image_keys=["top"], image_size=64), "reach", {})


def test_options_that_do_not_fit():
    with pytest.raises(ConfigError, match=r"'reach' with \{'colour': 1\} cannot be made"):
        make_env("reach", colour=1)
    with pytest.raises(ConfigError, match=r"'reach' with \{'colour': 1\} cannot be made"):
        make_vector_env("reach", 2, colour=1)


def test_an_episode_is_shown_as_one_strip():
    strip = strip_of(drawn_episode("reach", Policy(), seed=3)[0], 4)
    assert strip.shape == (240, 4 * 240, 3) and strip.dtype == np.uint8
    first, last = strip[:, :240], strip[:, -240:]
    assert np.abs(first.astype(int) - last.astype(int)).max() > 50  # the arm has moved
    assert np.array_equal(strip, strip_of(drawn_episode("reach", Policy(), seed=3)[0], 4))


def test_what_was_recorded_is_the_episode_of_its_seed(tmp_path):
    path = record_episodes("reach", tmp_path / "reach.h5", episodes=3, seed=30).path
    with h5py.File(path) as file:
        assert file.attrs["env_name"] == "reach" and file.attrs["expert"] == "scripted"
        assert file.attrs["control_hz"] == 20.0
        episode = file["episode_2"]
        stored = {key: episode["observations"][key][()] for key in episode["observations"]}
        actions, rewards = episode["actions"][()], episode["rewards"][()]
    env = make_env("reach")
    observation, _ = env.reset(seed=32)
    assert stored.keys() == observation.keys() and actions.shape == (len(rewards), 4)
    for step, action in enumerate(actions):
        for key, value in observation.items():
            np.testing.assert_array_equal(stored[key][step], value)
        observation, reward, terminated, *_ = env.step(action)
        assert reward == rewards[step]
    assert terminated


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_the_file_does_not_depend_on_the_batch_width(tmp_path, noise):
    wide = record_episodes("reach", tmp_path / "wide.h5", episodes=5, noise=noise).path.read_bytes()
    for num_envs in (1, 3):
        path = tmp_path / f"{num_envs}.h5"
        record_episodes("reach", path, episodes=5, noise=noise, num_envs=num_envs)
        assert path.read_bytes() == wide


@pytest.mark.slow
def test_the_file_does_not_depend_on_the_workers(tmp_path):
    files = []
    for workers in (1, 2, 3):
        path = tmp_path / f"{workers}.h5"
        record_episodes("reach", path, episodes=40, noise=0.2, only_successes=True, workers=workers)
        files.append(path.read_bytes())
    assert files[0] == files[1] == files[2]


@pytest.mark.parametrize("cameras", [["wrist"], ["front", "wrist"]])
def test_images_of_the_cameras_are_recorded(tmp_path, cameras):
    path = tmp_path / "seen.h5"
    record_episodes("reach", path, episodes=2, images=64, cameras=cameras)
    with h5py.File(path) as file:
        observations = file["episode_0/observations"]
        keys = {"front": "image", "wrist": "wrist_image"}
        assert {k for k in observations if "image" in k} == {keys[name] for name in cameras}
        for key in (keys[name] for name in cameras):
            image, steps = observations[key][()], len(file["episode_0/actions"])
            assert observations[key].chunks == (1, 64, 64, 3)
            assert image.shape == (steps, 64, 64, 3) and image.dtype == np.uint8
            assert image.std() > 5 and not np.array_equal(image[0], image[-1])
