import json
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from simscaleai_plugin_gym import find_expert, make_env, per_env, per_slot, record_episodes
from simscaleai_plugin_gym.executors.failures import WorkerError
from simscaleai_plugin_gym.record.collector import Collector, RecordingSettings
from simscaleai_plugin_gym.record.experts import ExpertError, relabelling_of
from simscaleai_plugin_hdf5.dataset import TrajectoryDataset

from simscaleai_core.errors import ConfigError

pytestmark = pytest.mark.slow

POINT = "recording_toys:Toys/Point-v0"
BALLS = "recording_toys:Toys/Balls-v0"


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


@pytest.fixture
def record(tmp_path):
    def run(name, env="dot", **arguments):
        path = tmp_path / name
        record_episodes(env, path, **{"episodes": 5, "seed": 30, **arguments})
        return path

    return run


@pytest.fixture
def point(record):
    return partial(record, env=POINT, expert="recording_toys:go")


def test_what_was_recorded_is_the_episode_of_its_seed(record):
    path = record("reach.h5")
    with h5py.File(path) as file:
        assert file.attrs["env_name"] == "dot" and file.attrs["expert"] == "scripted"
        assert len(file) == 5
        episode = file["episode_2"]
        assert episode.attrs["seed"] == 32 and episode.attrs["success"]
        stored = {key: episode["observations"][key][()] for key in episode["observations"]}
        actions, rewards = episode["actions"][()], episode["rewards"][()]
    assert actions.dtype == np.float64 and actions.shape == (len(rewards), 2)
    env = make_env("dot")
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
        "dot", tmp_path / "r.h5", episodes=4, on_episode=lambda episode: seen.append(episode.seed)
    )
    assert seen == [0, 1, 2, 3]
    assert (recording.n_episodes, recording.successes) == (4, 4)
    lengths = [len(v) for k, v in contents(recording.path).items() if k.endswith("/rewards")]
    assert recording.env_steps == sum(lengths)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_the_file_does_not_depend_on_the_batch_width(record, noise):
    wide = record("wide.h5", noise=noise).read_bytes()
    for num_envs in (1, 3):
        assert record(f"{num_envs}.h5", noise=noise, num_envs=num_envs).read_bytes() == wide


def test_a_longer_recording_starts_with_the_same_episodes(record):
    short, long = contents(record("a.h5")), contents(record("b.h5", episodes=8))
    for name in short:
        if name.startswith("episode_"):
            np.testing.assert_array_equal(short[name], long[name])


@pytest.mark.slow
@pytest.mark.parametrize("env", ["dot", POINT])
def test_the_file_does_not_depend_on_the_workers(record, env):
    run = partial(record, env=env, episodes=40, noise=0.2, only_successes=True)
    if env == POINT:
        run = partial(run, expert="recording_toys:Patient", env_kwargs={"reachable": 0.5})
    one = run("one.h5").read_bytes()
    assert run("two.h5", workers=2).read_bytes() == one
    assert run("three.h5", workers=3, num_envs=2).read_bytes() == one


def collect(env, seeds, **plan):
    collector = Collector(RecordingSettings(env=env, **plan))
    try:
        return list(collector.collect(seeds))
    finally:
        collector.close()


def test_with_noise_the_label_stays_the_experts_own():
    episodes = collect("dot", [1, 2], noise=0.5, num_envs=2)
    for episode in episodes:
        label = find_expert("dot")(episode.observations)
        np.testing.assert_array_equal(episode.actions, label)
    clean = collect("dot", [1, 2], num_envs=2)
    for noisy, straight in zip(episodes, clean, strict=True):
        ends = (noisy.observations["pos"][-1], straight.observations["pos"][-1])
        assert not np.array_equal(*ends)


def test_images_are_recorded_beside_the_numbers(record):
    path = record("seen.h5", episodes=2, images=64)
    with h5py.File(path) as file:
        stored = file["episode_0/observations/image"]
        image, steps = stored[()], len(file["episode_0/actions"])
        assert stored.chunks == (1, 64, 64, 3)
        assert image.shape == (steps, 64, 64, 3) and image.dtype == np.uint8
        assert image.std() > 5 and not np.array_equal(image[0], image[-1])


def test_the_metadata_of_the_environment_is_stored(point):
    path = point("p.h5", env_kwargs={"reachable": 1.0}, seed=0)
    facts = contents(path)
    assert facts["@env_name"] == POINT and facts["@expert"] == "recording_toys:go"
    assert json.loads(facts["@env_spec"]) == {"id": POINT, "kwargs": {"reachable": 1.0}}
    space = json.loads(facts["@action_space"])
    assert space == {"type": "Box", "shape": [2], "low": [-1.0, -1.0], "high": [1.0, 1.0]}
    assert facts["@control_hz"] == 12.0 and facts["@attempts"] == 5
    assert contents(point("reach.h5", env="dot", expert=None))["@control_hz"] == 20.0


FORMS = {
    "box": {"state": 4},
    "goal": {"achieved_goal": 2, "desired_goal": 2, "observation": 2},
    "nested": {"goal": 2, "robot_pos": 2},
}


@pytest.mark.parametrize("form", FORMS)
def test_observations_of_every_form(point, form):
    path = point("p.h5", env_kwargs={"form": form})
    with h5py.File(path) as file:
        for episode in file.values():
            assert episode.attrs["success"] and "language" not in episode.attrs
            stored = dict(episode["observations"])
            assert {key: array.shape[1] for key, array in stored.items()} == FORMS[form]
            assert {array.dtype for array in stored.values()} == {np.dtype(np.float32)}
            actions = episode["actions"][()]
            assert np.abs(actions).max() <= 1.0 and actions.dtype == np.float64  # clipped
    assert TrajectoryDataset(path)[0]["actions"].shape == (2,)


def test_an_observation_that_is_an_image(record):
    path = record("i.h5", env=POINT, expert="recording_toys:still", env_kwargs={"form": "image"},
                  max_steps=4)  # fmt: skip
    with h5py.File(path) as file:
        assert file["episode_0/observations/image"].shape == (4, 8, 8, 3)
        assert not file["episode_0"].attrs["success"]


def test_an_expert_for_one_observation(point):
    whole = contents(point("a.h5"))
    single = contents(
        point("b.h5", expert="recording_toys:go_single", expert_single=True, num_envs=2)
    )
    for name in whole:
        if name != "@expert":
            np.testing.assert_array_equal(whole[name], single[name])


def test_an_expert_that_remembers_starts_anew_with_each_episode(point):
    path = point("a.h5", expert="recording_toys:Patient", num_envs=1)
    assert path.read_bytes() == point(
        "b.h5", expert="recording_toys:Patient", num_envs=3
    ).read_bytes()  # fmt: skip
    with h5py.File(path) as file:
        for episode in file.values():
            moved = np.abs(episode["actions"][()]).max(axis=1) > 0
            assert moved.tolist() == [False] * 3 + [True] * (len(moved) - 3)


def test_an_expert_in_a_file(point, tmp_path):
    source = Path(__file__).with_name("recording_toys.py")
    (tmp_path / "mine.py").write_text(source.read_text().split("class Point")[0] +
                                      "def act(o):\n    return 5 * (o['state'][:, 2:] - o['state'][:, :2])\n")  # fmt: skip
    own, known = contents(point("a.h5", expert=f"{tmp_path}/mine.py:act")), contents(point("b.h5"))
    assert own.pop("@expert") != known.pop("@expert")
    np.testing.assert_equal(own, known)


EXPERTS = {
    "recording_toys:missing": "cannot be imported: AttributeError: .*no attribute 'missing'",
    "nowhere:go": "cannot be imported: ModuleNotFoundError: No module named 'nowhere'",
    "./nowhere.py:go": "cannot be imported: FileNotFoundError",
    "recording_toys": "expected 'module:function' or './file.py:function'",
    "recording_toys:number": "expected a function of \\(observation\\), got int",
}


@pytest.mark.parametrize(("expert", "message"), EXPERTS.items(), ids=EXPERTS)
def test_an_expert_that_cannot_be_had(point, tmp_path, expert, message):
    with pytest.raises(ConfigError, match=message):
        point("x.h5", expert=expert)
    assert not list(tmp_path.iterdir())


FAILURES = {
    "wide": ({}, r"one of the seeds \[30, 31, 32\]: expected actions \[3, 2\], got \[3, 3\] float64"),
    "nan_here": ({}, r"seed 3\d: expected finite actions, got \[nan, nan\]"),
    "breaks": ({}, r"one of the seeds \[.*\]: ZeroDivisionError: a goal on the right"),
    "breaks_single": ({"expert_single": True}, r"failed at seed 33: ZeroDivisionError: a goal"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_an_expert_that_fails_is_named_with_the_seed(point, tmp_path, name):
    arguments, message = FAILURES[name]
    with pytest.raises(ExpertError, match=message) as caught:
        point("x.h5", expert=f"recording_toys:{name}", num_envs=3, **arguments)
    text = str(caught.value)
    assert text.startswith(f"expert 'recording_toys:{name}' failed at") and "\n" not in text
    assert caught.value.expert == f"recording_toys:{name}"
    assert not list(tmp_path.iterdir())


def test_the_seed_that_is_named_is_the_one(point):
    with pytest.raises(ExpertError) as caught:
        point("x.h5", expert="recording_toys:breaks_single", expert_single=True, num_envs=2)
    (seed,) = caught.value.seeds
    env = make_env(POINT)
    right = [env.reset(seed=s)[0][2] > 0.5 for s in range(30, seed + 1)]
    assert right == [False] * (seed - 30) + [True]


REFUSED = {
    "no expert": ("CartPole-v1", {}, "has no scripted expert"),
    "discrete": ("recording_toys:Toys/Button-v0", {}, r"row of numbers, Box \[A\], got Discrete"),
    "tuple": (POINT, {"env_kwargs": {"form": "tuple"}}, "observations of 'robot' .*got Tuple"),
    "clash": (POINT, {"env_kwargs": {"form": "clash"}}, "got 'robot_pos' twice"),
    "endless": ("recording_toys:Toys/Endless-v0", {"expert": "recording_toys:still",
                "env_kwargs": {"form": "image"}}, "of seed 30, got 100 steps. Give max_steps"),
    "no success": (POINT, {"env_kwargs": {"reports": False}, "only_successes": True},
                   "does not report whether an episode succeeded"),
    "no relabelling": (POINT, {"relabel": True}, "expected a method 'relabelled', got none"),
    "unknown option": (POINT, {"env_kwargs": {"colour": 3}}, "cannot be made.*colour"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_recorded(record, tmp_path, monkeypatch, name):
    monkeypatch.setattr("simscaleai_plugin_gym.rollout.rollouts.MAX_STEPS_WITHOUT_LIMIT", 100)
    env, arguments, message = REFUSED[name]
    if env != "CartPole-v1":
        arguments = {"expert": "recording_toys:go", **arguments}
    with pytest.raises(ConfigError, match=message):
        record("x.h5", env=env, **arguments)
    assert not list(tmp_path.iterdir())


def test_success_that_is_not_reported_is_not_written(point, tmp_path):
    path = tmp_path / "p.h5"
    done = record_episodes(POINT, path, episodes=2, expert="recording_toys:go",
                           env_kwargs={"reports": False})  # fmt: skip
    assert done.successes is None
    assert "episode_0@success" not in contents(path)


def test_only_successes(record, tmp_path):
    arguments = {"expert": "recording_toys:go", "env_kwargs": {"reachable": 0.4}}
    every = contents(record("all.h5", env=POINT, episodes=60, **arguments))
    lucky = [every[f"episode_{i}@seed"] for i in range(60) if every[f"episode_{i}@success"]]
    assert len(lucky) > 12
    path = tmp_path / "some.h5"
    done = record_episodes(POINT, path, episodes=12, seed=30, only_successes=True, **arguments)
    some = contents(path)
    assert [some[f"episode_{i}@seed"] for i in range(12)] == lucky[:12]
    assert "episode_12@seed" not in some
    assert (done.n_episodes, done.successes, done.attempts) == (12, 12, lucky[11] - 30 + 1)
    assert some["@attempts"] == done.attempts
    number = lucky[11] - 30
    for name, value in some.items():
        if name.startswith("episode_11"):
            np.testing.assert_array_equal(
                value, every[name.replace("episode_11", f"episode_{number}")]
            )


def test_an_expert_that_succeeds_too_seldom(point, tmp_path):
    arguments = {"only_successes": True, "env_kwargs": {"reachable": 0.2}, "episodes": 6}
    with pytest.raises(ConfigError, match=r"expected 6 successes, got \d in 8 attempts \(seeds 30"):
        point("x.h5", max_attempts=8, **arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["x.h5.parts"]
    continued = point("x.h5", max_attempts=300, **arguments)
    assert continued.read_bytes() == point("y.h5", **arguments).read_bytes()
    with pytest.raises(ConfigError, match="expected 2 successes, got 0 in 20 attempts"):
        point("z.h5", only_successes=True, env_kwargs={"reachable": 0.0}, episodes=2)


def test_instructions_are_stored_and_what_is_privileged_is_not(record):
    found = contents(record("b.h5", env=BALLS, expert="recording_toys:follow", num_envs=2))
    env = make_env(BALLS)
    for number in range(5):
        _, info = env.reset(seed=30 + number)
        assert found[f"episode_{number}@language"] == info["language"]
        assert found[f"episode_{number}@success"]
    keys = {name.split("/")[2] for name in found if "/observations/" in name}
    assert keys == {"pos", "image"}


def test_relabelled_episodes(record, tmp_path):
    arguments = {"env": BALLS, "expert": "recording_toys:follow", "num_envs": 2}
    plain = record("plain.h5", **arguments)
    path = tmp_path / "relabelled.h5"
    done = record_episodes(BALLS, path, episodes=5, seed=30, relabel=True, num_envs=3,
                           expert="recording_toys:follow")  # fmt: skip
    assert (done.n_episodes, done.n_relabelled) == (5, 10)
    assert path.stat().st_size < 1.5 * plain.stat().st_size
    env = make_env(BALLS)
    with h5py.File(path) as file:
        assert len(file) == file.attrs["n_episodes"] == 15
        for number in range(5):
            env.reset(seed=30 + number)
            first = file[f"episode_{3 * number}"]
            assert first.attrs["success"] and "relabelled_from" not in first.attrs
            languages = {first.attrs["language"]}
            for other in (file[f"episode_{3 * number + i}"] for i in (1, 2)):
                assert other["observations"] == first["observations"]
                assert other.attrs["relabelled_from"] == f"episode_{3 * number}"
                assert "success" not in other.attrs
                languages.add(other.attrs["language"])
                colour = ("red", "blue", "green").index(other.attrs["language"].split()[-1])
                way = env.unwrapped.balls[colour] - first["observations/pos"][()]
                np.testing.assert_allclose(other["actions"][()], np.clip(5 * way, -1, 1))
            assert len(languages) == 3
    dataset = TrajectoryDataset(path, include_language=True)
    assert len(dataset) == 3 * done.env_steps
    assert done.env_steps == len(TrajectoryDataset(plain))


def test_the_names_of_version_0_1_still_work():
    class Old:
        def retold(self, observation):
            return [(["go to red"], observation)]

    assert relabelling_of(Old())("x") == [(["go to red"], "x")]
    assert relabelling_of(lambda observation: None) is None
    assert per_slot is per_env


def test_a_relabelled_episode_ends_where_the_expert_does_not_know(tmp_path):
    path = tmp_path / "relabelled.h5"
    done = record_episodes(BALLS, path, episodes=5, seed=30, relabel=True,
                           expert="recording_toys:doubt")  # fmt: skip
    assert (done.n_episodes, done.n_relabelled) == (5, 5)
    cut = 0
    with h5py.File(path) as file:
        for number in range(0, 10, 2):
            first, other = file[f"episode_{number}"], file[f"episode_{number + 1}"]
            near = np.abs(first["observations/pos"][()]).max(axis=1) <= 0.3
            steps = len(near) if near.all() else int(np.argmin(near))
            cut += steps < len(near)
            assert steps == len(other["actions"])
            for key in ("pos", "image"):
                both = (episode[f"observations/{key}"][:steps] for episode in (first, other))
                np.testing.assert_array_equal(*both)
                assert len(other[f"observations/{key}"]) == steps
    assert 2 <= cut < 5
    assert len(TrajectoryDataset(path, include_language=True)) > done.env_steps


def test_the_file_is_the_same_with_an_expert_given_as_a_function(point):
    from recording_toys import go

    assert point("a.h5", expert=go).read_bytes() == point("b.h5").read_bytes()
    with pytest.raises(ConfigError, match=r"cannot be sent to another process.*or use one worker"):
        point("c.h5", expert=lambda seen: 2 * go(seen), workers=2)


@pytest.mark.slow
def test_what_fails_in_a_process_is_reported_here(point, tmp_path):
    with pytest.raises(ExpertError, match="failed at seed 33: ZeroDivisionError") as caught:
        point("x.h5", expert="recording_toys:breaks_single", expert_single=True, workers=2)
    assert "breaks_single" in str(caught.value.__cause__)  # the traceback over there
    with pytest.raises(WorkerError, match="died: expected it to finish, got exit status 7"):
        point("y.h5", expert="recording_toys:dies", workers=2)
    assert not (tmp_path / "y.h5.parts").exists()  # nothing was finished


def test_a_file_is_never_replaced_without_being_asked(point, tmp_path):
    path = point("a.h5")
    first = path.read_bytes()
    with pytest.raises(ConfigError, match=r"a.h5' exists already.*--overwrite"):
        point("a.h5", noise=0.5)
    assert path.read_bytes() == first
    assert point("a.h5", noise=0.5, overwrite=True).read_bytes() != first
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ConfigError, match="expected a file name, got a directory"):
        point(".")


def test_every_number_out_of_range_is_named_at_once(tmp_path):
    with pytest.raises(ConfigError) as caught:
        record_episodes("dot", tmp_path / "x.h5", episodes=0, seed=-1, noise=-0.1, workers=0)
    assert caught.value.problems == (
        "episodes: expected at least 1, got 0",
        "seed: expected at least 0, got -1",
        "noise: expected at least 0, got -0.1",
        "workers: expected at least 1, got 0",
    )
