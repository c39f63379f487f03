import h5py
import numpy as np
import pytest
from simscaleai_plugin_sim import find_expert, make_env, record_episodes
from simscaleai_plugin_sim.recording import collect_episodes

from simscaleai_core.errors import ConfigError


def contents(path):
    """Everything in a file: datasets and attributes by name."""
    found = {}

    def note(name, node):
        found.update({f"{name}@{key}": value for key, value in node.attrs.items()})
        if isinstance(node, h5py.Dataset):
            found[name] = node[()]

    with h5py.File(path) as file:
        note("", file)
        file.visititems(note)
    return found


def assert_same_contents(left, right):
    left, right = contents(left), contents(right)
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


@pytest.fixture
def record(tmp_path):
    def run(name, **arguments):
        path = tmp_path / name
        record_episodes("reach", path, **{"episodes": 5, "seed": 30, **arguments})
        return path

    return run


def test_what_was_recorded_is_the_episode_of_its_seed(record):
    path = record("reach.h5")
    with h5py.File(path) as file:
        assert file.attrs["env_name"] == "reach" and file.attrs["expert"] == "scripted"
        assert len(file) == 5
        episode = file["episode_2"]
        assert episode.attrs["seed"] == 32 and episode.attrs["success"]
        stored = {key: episode["observations"][key][()] for key in episode["observations"]}
        actions, rewards = episode["actions"][()], episode["rewards"][()]
    assert actions.dtype == np.float64 and actions.shape == (len(rewards), 4)
    env = make_env("reach")
    observation, _ = env.reset(seed=32)
    assert stored.keys() == observation.keys()
    for step, action in enumerate(actions):
        for key, value in observation.items():
            np.testing.assert_array_equal(stored[key][step], value)
        observation, reward, terminated, *_ = env.step(action)
        assert reward == rewards[step]
    assert terminated


def test_the_summary_says_what_is_in_the_file(tmp_path):
    seen = []
    recording = record_episodes(
        "reach", tmp_path / "r.h5", episodes=4, on_episode=lambda episode: seen.append(episode.seed)
    )
    assert seen == [0, 1, 2, 3]
    assert (recording.n_episodes, recording.successes) == (4, 4)
    lengths = [len(v) for k, v in contents(recording.path).items() if k.endswith("/rewards")]
    assert recording.env_steps == sum(lengths)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_the_file_does_not_depend_on_the_batch_width(record, noise):
    wide = record("wide.h5", noise=noise)
    for num_envs in (1, 3):
        assert_same_contents(wide, record(f"{num_envs}.h5", noise=noise, num_envs=num_envs))


def test_a_longer_recording_starts_with_the_same_episodes(record):
    short, long = contents(record("a.h5")), contents(record("b.h5", episodes=8))
    for name in short:
        if name.startswith("episode_"):
            np.testing.assert_array_equal(short[name], long[name])


@pytest.mark.slow
def test_the_file_does_not_depend_on_the_workers(record):
    one = record("one.h5", episodes=40, noise=0.2)
    assert_same_contents(one, record("two.h5", episodes=40, noise=0.2, workers=2))


def test_with_noise_the_label_stays_the_experts_own():
    episodes = list(collect_episodes("reach", [1, 2], noise=0.5, images=None, num_envs=2))
    for episode in episodes:
        label = find_expert("reach")(episode.observations)
        np.testing.assert_array_equal(episode.actions, label)
    clean = list(collect_episodes("reach", [1, 2], noise=0.0, images=None, num_envs=2))
    for noisy, straight in zip(episodes, clean, strict=True):
        ends = (noisy.observations["ee_pos"][-1], straight.observations["ee_pos"][-1])
        assert not np.array_equal(*ends)


def test_images_are_recorded_beside_the_numbers(record):
    path = record("seen.h5", episodes=2, images=64)
    with h5py.File(path) as file:
        image = file["episode_0/observations/image"][()]
        steps = len(file["episode_0/actions"])
    assert image.shape == (steps, 64, 64, 3) and image.dtype == np.uint8
    assert image.std() > 10 and not np.array_equal(image[0], image[-1])


def test_nothing_is_written_if_the_environment_has_no_expert(tmp_path):
    with pytest.raises(ConfigError, match="has no scripted expert"):
        record_episodes("CartPole-v1", tmp_path / "x.h5", episodes=1)
    assert not list(tmp_path.iterdir())


def test_every_number_out_of_range_is_named_at_once(tmp_path):
    with pytest.raises(ConfigError) as caught:
        record_episodes("reach", tmp_path / "x.h5", episodes=0, seed=-1, noise=-0.1, workers=0)
    assert caught.value.problems == (
        "episodes: expected at least 1, got 0",
        "seed: expected at least 0, got -1",
        "noise: expected at least 0, got -0.1",
        "workers: expected at least 1, got 0",
    )
