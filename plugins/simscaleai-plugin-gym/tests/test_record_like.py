"""Recording at chosen seeds: those that are given, and those that begin near failures."""

import json

import h5py
import numpy as np
import pytest
from simscaleai_plugin_gym import make_env, record_episodes
from simscaleai_plugin_gym.commands.record import record
from simscaleai_plugin_gym.record.collector import RecordingSettings
from simscaleai_plugin_gym.record.failures import read_failures
from simscaleai_plugin_gym.record.seeds import CANDIDATES, near_seeds

from simscaleai_core.errors import ConfigError

POINT = "recording_toys:Toys/Point-v0"


def starts(seeds):
    """Where the dot and its goal are at first `[N, 4]`."""
    env = make_env("dot")
    found = [env.reset(seed=int(seed))[0] for seed in seeds]
    env.close()
    return np.array([np.concatenate([each["pos"], each["goal"]]) for each in found])


def write_failures(folder, conditions, successes, **changes):
    table = {
        "format": 1, "env": "dot", "env_kwargs": {}, "checkpoint": str(folder / "policy.pt"),
        "seeds": list(range(50_000, 50_000 + len(successes))), "successes": successes,
        "initial_conditions": conditions, "common": [], **changes,
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / "conditions.json").write_text(json.dumps(table))
    return folder


FAILED = np.array([[0.8, 0.8, -0.8, -0.8], [-0.7, 0.6, 0.7, -0.6], [0.0, 0.0, 0.9, 0.9]])
NAMES = ("pos.0", "pos.1", "goal.0", "goal.1")


@pytest.fixture
def failures(tmp_path):
    rows = [*FAILED, np.zeros(4), np.full(4, 0.1)]
    conditions = [dict(zip(NAMES, row.tolist(), strict=True)) for row in rows]
    return write_failures(tmp_path / "fails", conditions, [False] * 3 + [True] * 2)


def seeds_in(path):
    with h5py.File(path) as file:
        return [int(file[f"episode_{i}"].attrs["seed"]) for i in range(len(file))]


def distance(seeds):
    return np.linalg.norm(starts(seeds)[:, None] - FAILED, axis=-1)


def test_episodes_begin_near_the_failures(failures, tmp_path):
    recording = record_episodes(None, tmp_path / "near.h5", episodes=12, like=failures)
    seeds = seeds_in(recording.path)
    assert len(set(seeds)) == 12
    assert all(100_000 <= seed < 100_000 + 12 * CANDIDATES for seed in seeds)
    shares = distance(seeds).argmin(axis=1)
    assert np.bincount(shares).tolist() == [4, 4, 4]
    usual = distance(range(100_000, 100_000 + 12 * CANDIDATES)).min(axis=1)
    assert distance(seeds).min(axis=1).max() < np.quantile(usual, 0.1)
    with h5py.File(recording.path) as file:
        said = file.attrs["seeds_from"]
    assert said == recording.seeds_from and "nearest to 3 failures" in said


def test_every_failure_takes_the_nearest_that_is_left(failures):
    plan = near_seeds(RecordingSettings(env="dot"), read_failures(failures), 4, 9, 300)
    candidates = np.arange(300, 300 + 4 * CANDIDATES)
    drawn = starts(candidates)
    scaled = np.linalg.norm((FAILED[:, None] - drawn) / drawn.std(axis=0), axis=-1)
    expected = []
    for turn in range(9):
        left = [i for i in np.argsort(scaled[turn % 3]) if candidates[i] not in expected]
        expected.append(candidates[left[0]])
    assert list(plan.seeds) == expected


def test_conditions_that_nothing_has_in_common_with(failures, tmp_path):
    write_failures(failures, [{"weight": 1.0}], [False])
    with pytest.raises(ConfigError, match=r"that varies over the seeds .* got \['weight'\]"):
        record_episodes("dot", tmp_path / "near.h5", episodes=2, like=failures)


@pytest.mark.parametrize("seed", [9_990, 10_000, 19_999])
def test_seeds_of_reports_are_never_candidates(failures, tmp_path, seed):
    with pytest.raises(ConfigError, match="kept for reports"):
        record_episodes("dot", tmp_path / "near.h5", episodes=2, like=failures, seed=seed)


def test_seeds_that_a_report_has_used_are_refused(failures, tmp_path):
    report = {"seeds": [100_000, 100_079], "successes": [True, False]}
    (failures / "report.json").write_text(json.dumps(report))
    with pytest.raises(ConfigError, match=r"a report has used, got 100000 @ report\.json"):
        record_episodes("dot", tmp_path / "near.h5", episodes=2, like=failures)


REFUSED = {
    "missing": (None, "got No such file or directory @ conditions.json. Write one with 'simscale"),
    "text": ("{", r"expected a folder of failures, got Expecting"),
    "list": ([], "expected format 1, got 'list'"),
    "format": ({"format": 2}, "expected format 1, got 2"),
    "cut": ({"successes": [True]}, "expected seeds, successes and initial conditions of as many"),
    "field": ({"env_kwargs": 3}, "got TypeError"),
    "none": ({"successes": [True] * 5}, "expected at least one failed episode, got none of 5"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_folder_that_is_none_of_failures(failures, tmp_path, name):
    change, message = REFUSED[name]
    path = failures / "conditions.json"
    table = json.loads(path.read_text())
    if change is None:
        path.unlink()
    else:
        text = json.dumps({**table, **change} if isinstance(change, dict) else change)
        path.write_text(change if isinstance(change, str) else text)
    with pytest.raises(ConfigError, match=message):
        record_episodes("dot", tmp_path / "near.h5", episodes=2, like=failures)


@pytest.mark.slow
def test_the_environment_is_that_of_the_failures(failures, tmp_path, capsys):
    write_failures(failures, [{"pos.0": 0.5}], [False], env_kwargs={"images": 16})
    path = tmp_path / "near.h5"
    assert record(output=path, episodes=2, like=failures, json=True) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["env"] == "dot" and "nearest to 1 failures" in facts["seeds_from"]
    with h5py.File(path) as file:
        assert file["episode_0/observations/image"].shape[1:] == (16, 16, 3)
    with pytest.raises(ConfigError, match="expected failures in 'cart', got some in 'dot'"):
        record(env="cart", output=tmp_path / "b.h5", episodes=2, like=failures)
    record(env="Toys/Dot-v0", output=tmp_path / "c.h5", episodes=2, like=failures)  # the same
    with pytest.raises(ConfigError, match="env: expected the name of an environment, got none"):
        record(output=tmp_path / "d.h5")


@pytest.mark.slow
def test_given_seeds_are_recorded_in_their_order(tmp_path):
    path = tmp_path / "r.h5"
    record_episodes("dot", path, episodes=3, seeds=[7, 3, np.int64(5)])
    assert seeds_in(path) == [7, 3, 5]
    one = record_episodes("dot", tmp_path / "s.h5", episodes=1, seed=3).path
    with h5py.File(path) as given, h5py.File(one) as alone:
        assert given.attrs["seeds_from"] == "given one by one"
        assert "seeds_from" not in alone.attrs and alone.attrs["first_seed"] == 3
        actions = [file[name][()] for file, name in ((given, "episode_1/actions"),
                                                     (alone, "episode_0/actions"))]  # fmt: skip
    np.testing.assert_array_equal(*actions)


@pytest.mark.slow
def test_of_given_seeds_the_first_that_succeed_are_kept(tmp_path):
    arguments = {"expert": "recording_toys:go", "env_kwargs": {"reachable": 0.4}}
    arguments |= {"only_successes": True, "seeds": list(range(40, 0, -1))}
    path = tmp_path / "p.h5"
    recording = record_episodes(POINT, path, episodes=4, **arguments)
    kept = seeds_in(path)
    assert len(kept) == 4 < recording.attempts == 41 - kept[-1]
    assert kept == sorted(kept, reverse=True)
    with pytest.raises(ConfigError, match=r"got \d+ in 40 attempts \(seeds 40 to 1\)"):
        record_episodes(POINT, tmp_path / "q.h5", episodes=30, **arguments)


WRONG = {
    "few": ({"seeds": [1, 2]}, "seeds: expected 3, one an episode, got 2"),
    "many": ({"seeds": [1, 2, 3, 4]}, "seeds: expected 3, one an episode, got 4"),
    "twice": ({"seeds": [1, 2, 1]}, "seeds: expected each at most once, got 1 twice"),
    "negative": ({"seeds": [1, 2, -1]}, "seeds: expected integers of at least 0, got -1"),
    "text": ({"seeds": [1, 2, "3"]}, "seeds: expected integers of at least 0, got '3'"),
    "both": ({"seeds": [1, 2, 3], "seed": 4}, "seeds: expected no seed beside them"),
}


@pytest.mark.parametrize("name", WRONG)
def test_seeds_that_cannot_be_used(tmp_path, name):
    arguments, message = WRONG[name]
    with pytest.raises(ConfigError, match=message):
        record_episodes("dot", tmp_path / "r.h5", episodes=3, **arguments)


@pytest.mark.slow
def test_other_seeds_are_no_continuation(tmp_path):
    def stop(facts):
        if facts.seed == 41:
            raise KeyboardInterrupt

    path = tmp_path / "r.h5"
    with pytest.raises(KeyboardInterrupt):
        record_episodes("dot", path, episodes=50, seeds=range(15, 65), on_episode=stop)
    with pytest.raises(ConfigError, match="seeds: begun with"):
        record_episodes("dot", path, episodes=50, seeds=[15, *range(17, 66)])
    assert record_episodes("dot", path, episodes=50, seeds=range(15, 65)).n_resumed == 25
