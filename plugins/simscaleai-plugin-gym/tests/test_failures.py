"""What `simscale eval --failures` writes, with policies whose failures are known."""

import json

import av
import gymnasium
import h5py
import numpy as np
import pytest
from gymnasium.spaces import Box
from simscaleai_plugin_gym import EvalConfig
from simscaleai_plugin_gym.commands.evaluate import evaluate
from simscaleai_plugin_gym.commands.record import record
from simscaleai_plugin_gym.evaluate.workers import Evaluation, EvaluationWorker
from toy_dot import expert

from simscaleai_core.errors import ConfigError

DOT = {"episodes": 30, "video_episodes": 1}


class Blind:
    """Does as the expert does, and stands still where the goal is on the right."""

    hparams = {"use_image": False}

    def __init__(self, from_x=0.4):
        self.from_x = from_x

    def predict(self, observation):
        if observation["pos"].ndim == 1:
            return self.predict({k: v[None] for k, v in observation.items()})[0]
        actions = expert(observation)
        return np.where(self.is_right(observation["goal"])[:, None], 0.25, actions)

    def is_right(self, goal):
        return goal[:, 0] > self.from_x


class Chunky(Blind):
    """Predicts chunks of actions, as it says."""

    def set_execution(self, *, execute, ensemble):
        self.execution = (execute, ensemble)


class Rounded(Blind):
    """Stands still where the goal is on the right, and below if it acts alone."""

    def is_right(self, goal):
        return super().is_right(goal) & ((goal[:, 1] > 0) | (len(goal) > 1))


class Stopped(Blind):
    """Is interrupted when it acts alone."""

    def is_right(self, goal):
        if len(goal) == 1:
            raise KeyboardInterrupt
        return super().is_right(goal)


class Still:
    hparams = {"use_image": False}

    def predict(self, observation):
        return np.zeros((len(observation["state"]), 2))


class Restless(gymnasium.Env):
    """Takes no notice of seeds; a point that is far enough away is a success."""

    observation_space, action_space = Box(-9, 9, (2,), np.float64), Box(-1, 1, (2,), np.float64)
    draws = np.random.default_rng(0)

    def reset(self, *, seed=None, options=None):
        self.pos = self.draws.uniform(-1, 1, 2)
        return self.pos, {}

    def step(self, action):
        return self.pos, 0.0, True, False, {"success": self.pos[0] > 0}


gymnasium.register("Toys/Restless-v0", Restless, max_episode_steps=3)


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """Checkpoints by name; reading them is the core's, and tested there."""
    policies = {
        "final": Blind(), "good": Blind(9.0), "rounded": Rounded(), "stopped": Stopped(),
        "still": Still(), "chunky": Chunky(),
    }  # fmt: skip
    monkeypatch.setattr(
        "simscaleai_core.host.registry.read_policy",
        lambda host, tree, path, **_: policies[path.stem],
    )
    monkeypatch.setattr(
        "simscaleai_core.host.registry.load_checkpoint", lambda path, _: {"data": {"env": "dot"}}
    )
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in policies:
        (folder / f"{name}.pt").write_bytes(b"")
    return folder / "final.pt"


def episodes_of(path):
    with h5py.File(path) as file:
        return [
            (int(group.attrs["seed"]), bool(group.attrs["success"]), group["actions"][()])
            for _, group in sorted(file.items(), key=lambda item: int(item[0].partition("_")[2]))
        ]


@pytest.mark.slow  # films
def test_the_folder_holds_the_very_episodes_that_failed(checkpoint, tmp_path, capsys):
    folder = tmp_path / "new" / "failures"
    assert evaluate(checkpoint, failures=folder, json=True, **DOT) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["seeds"] == list(range(50_000, 50_030))
    outcomes = zip(results["seeds"], results["successes"], strict=True)
    failed = [seed for seed, success in outcomes if not success]
    right = [c["goal.0"] > 0.4 for c in results["initial_conditions"]]
    assert [not success for success in results["successes"]] == right
    assert 5 < len(failed) == results["n_failed"] == results["n_recorded"] < 25
    assert results["failures"] == str(folder)

    recorded = episodes_of(folder / "failures.h5")
    assert [(seed, success) for seed, success, _ in recorded] == [(s, False) for s in failed]
    assert all((actions == 0.25).all() for _, _, actions in recorded), "not the policy's own"

    table = json.loads((folder / "conditions.json").read_text())
    assert table["format"] == 1 and table["checkpoint"] == str(checkpoint)
    for key in ("env", "env_kwargs", "seeds", "successes", "initial_conditions", "common"):
        assert table[key] == results[key]
    best = results["common"][0]
    assert best["name"] == "goal.0" and best["median_failed"] > 0.4 > best["median_successful"]
    assert best["failed_greater"] == 1.0 and best["p_value_corrected"] < 1e-4

    assert results["films"] == [str(folder / f"seed_{failed[0]}.mp4")]
    with av.open(results["films"][0]) as film:
        assert sum(1 for _ in film.decode(video=0)) == 51
    names = {"conditions.json", "failures.h5", "contact_sheet.png", f"seed_{failed[0]}.mp4"}
    assert {path.name for path in folder.iterdir()} == names
    assert list(folder.parent.iterdir()) == [folder], "nothing is left beside it"


@pytest.mark.slow  # films
def test_a_person_sees_what_they_have_in_common(checkpoint, tmp_path, capsys):
    folder = tmp_path / "failures"
    folder.mkdir()  # empty: may be used
    assert evaluate(checkpoint, failures=folder, until="success_rate>=0.9", **DOT) == 0
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("how episodes began (medians)")
    name, failed, successful, greater, *_ = lines[start + 2].split()
    assert name == "goal.0" and float(failed) > 0.4 > float(successful) and greater == "100%"
    shown = {line.split()[0]: line.split()[1:] for line in lines[:start]}
    assert shown["failures"] == [str(folder)] and shown["n_recorded"] == shown["n_failed"]
    assert "common" not in shown and "films" not in shown


def test_without_a_failure_there_are_the_conditions_only(checkpoint, tmp_path, capsys):
    folder = tmp_path / "failures"
    good = checkpoint.with_name("good.pt")
    assert evaluate(good, failures=folder, seed=7, **DOT) == 0
    assert [path.name for path in folder.iterdir()] == ["conditions.json"]
    assert f"no episode failed: {folder} holds conditions.json only" in capsys.readouterr().err
    table = json.loads((folder / "conditions.json").read_text())
    assert table["seeds"] == list(range(7, 37)) and table["common"] == []


@pytest.mark.slow  # films
def test_episodes_in_which_rounding_decides_are_left_out(checkpoint, tmp_path, capsys):
    rounded = checkpoint.with_name("rounded.pt")
    assert evaluate(rounded, failures=tmp_path / "f", json=True, **DOT) == 0
    captured = capsys.readouterr()
    results = json.loads(captured.out)
    failed = {seed: c["goal.1"] > 0 for seed, c, success in zip(
        results["seeds"], results["initial_conditions"], results["successes"], strict=True
    ) if not success}  # fmt: skip
    others = [str(seed) for seed, fails_alone in failed.items() if not fails_alone]
    assert f"{len(others)} of {len(failed)} episodes that failed succeed when" in captured.err
    assert f"left out: seeds {', '.join(others)}." in captured.err
    recorded = episodes_of(tmp_path / "f" / "failures.h5")
    assert [seed for seed, *_ in recorded] == [seed for seed, alone in failed.items() if alone]
    assert results["n_failed"] == len(failed) > results["n_recorded"] == len(recorded) > 0
    assert not any(success for _, success, _ in recorded)


def test_an_environment_that_takes_no_notice_of_seeds_is_not_run_again(
    checkpoint, tmp_path, capsys
):
    still = checkpoint.with_name("still.pt")
    assert evaluate(still, env="Toys/Restless-v0", episodes=20, failures=tmp_path / "f") == 0
    said = capsys.readouterr().err
    assert "the failed episodes cannot be run again, and are neither recorded" in said
    assert [path.name for path in (tmp_path / "f").iterdir()] == ["conditions.json"]


@pytest.mark.slow  # records
def test_without_pictures_the_rest_is_there(checkpoint, tmp_path, capsys):
    still, folder = checkpoint.with_name("still.pt"), tmp_path / "f"
    point = "recording_toys:Toys/Point-v0"
    assert evaluate(still, env=point, episodes=5, failures=folder, json=True) == 0
    captured = capsys.readouterr()
    (line,) = [line for line in captured.err.splitlines() if "films" in line]
    assert line.startswith("warning: there are no films of the failures: environment ")
    assert json.loads(captured.out)["films"] == []
    assert {path.name for path in folder.iterdir()} == {"conditions.json", "failures.h5"}


def test_films_execute_what_the_evaluation_does(checkpoint):
    evaluation = Evaluation(config=EvalConfig(execute=3, ensemble=0.1))  # it runs elsewhere
    worker = EvaluationWorker(evaluation, [checkpoint.with_name("chunky.pt")])
    assert worker.policy(0).execution == (3, 0.1)


def test_a_recording_has_the_same_choices_of_the_policy(tmp_path):
    with pytest.raises(ConfigError, match="execute: expected a policy with it, got none"):
        record(env="dot", output=tmp_path / "dot.h5", episodes=1, execute=2)
    with pytest.raises(ConfigError, match="execute: expected at least 1, got 0"):
        record(env="dot", output=tmp_path / "dot.h5", policy=tmp_path / "x.pt", execute=0)
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_of_a_folder_that_is_not_complete(checkpoint, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(KeyboardInterrupt):
        evaluate(checkpoint.with_name("stopped.pt"), failures=tmp_path / "f", **DOT)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"seed": 10_190}, r"none from 10000 to 19999, .* got 10190\. Choose others with --seed"),
        ({"policy_seed": "0,1"}, "failures: expected one --policy-seed, got 2"),
        ({"vary": ["delay=0,1"]}, "--failures has no meaning with --vary"),
        ({"failures": "checkpoints"}, "expected a new folder, got one with content"),
        ({"failures": "checkpoints/final.pt"}, "expected a folder, got a file"),
        ({"other": True}, "failures: expected one checkpoint, got 2"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_policy_is_loaded(
    checkpoint, tmp_path, monkeypatch, given, said
):
    def fail(*_):
        raise AssertionError("loaded")

    monkeypatch.setattr("simscaleai_core.host.registry.load_checkpoint", fail)
    folder = tmp_path / given.pop("failures", "f")
    others = [checkpoint] if given.pop("other", False) else []
    with pytest.raises(ConfigError, match=said):
        evaluate(checkpoint, *others, failures=folder, **given)


@pytest.mark.slow  # films
def test_a_report_keeps_its_seeds(checkpoint, tmp_path):
    output = checkpoint.with_name("eval.json")
    evaluate(checkpoint, episodes=2, seed=300, output=output)
    with pytest.raises(ConfigError, match=r"none that a report has used, got 301 @ eval\.json"):
        evaluate(checkpoint, seed=301, failures=tmp_path / "f", **DOT)
    evaluate(checkpoint, seed=400, failures=tmp_path / "f", output=output, **DOT)
    evaluate(checkpoint, seed=400, failures=tmp_path / "g", **DOT)  # no report, but a selection
