import json
import os

import av
import numpy as np
import pytest
import torch
from simscaleai_plugin_gym import find_expert
from simscaleai_plugin_gym.commands.evaluate import evaluate

from simscaleai_core.cli import app
from simscaleai_core.errors import ConfigError


class Expert:
    """Acts in both single and vector environments, as a trained policy does."""

    def __init__(self, scale=1.0):
        self.scale = scale
        self.hparams = {"use_image": False}

    def predict(self, observation):
        is_single = observation["pos"].ndim == 1
        batch = {k: v[None] if is_single else v for k, v in observation.items()}
        actions = self.scale * find_expert("dot")(batch)
        return actions[0] if is_single else actions


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """Checkpoints by name; reading them is the core's, and tested there."""
    policies = {"final": Expert(), "lame": Expert(scale=0.02)}
    monkeypatch.setattr(
        "simscaleai_core.host.registry.read_policy",
        lambda host, tree, path, **_: policies[path.stem],
    )
    tree = {"data": {"env": "dot"}}
    monkeypatch.setattr("simscaleai_core.host.registry.load_checkpoint", lambda path, _: tree)
    return tmp_path / "final.pt"


@pytest.fixture
def lame(checkpoint):
    return checkpoint.with_name("lame.pt")


def test_it_prints_one_json_object_and_writes_it(checkpoint, tmp_path, capsys):
    output = tmp_path / "results" / "eval.json"
    assert evaluate(checkpoint, env="dot", episodes=6, output=output, json=True) == 0
    results = json.loads(capsys.readouterr().out)
    assert results == json.loads(output.read_text())
    assert results["success_rate"] == 1.0 and results["seeds"][0] == 10_000
    assert results["checkpoint"] == str(checkpoint) and results["env"] == "dot"
    needed = {
        "success_rate",
        "success_rate_ci95",
        "n_episodes",
        "mean_return",
        "mean_length",
        "seeds",
    }
    assert set(results) >= needed | {"predict_ms", "policy_share", "env_share", "wall_s"}


def test_it_prints_the_rate_with_its_interval(checkpoint, capsys):
    assert evaluate(checkpoint, env="dot", episodes=4) == 0
    captured = capsys.readouterr()
    assert "success_rate_ci95" in captured.out and "[0.510, 1.000]" in captured.out
    assert "predict_ms.p99" in captured.out
    assert "seeds " not in captured.out and "None" not in captured.out
    assert "evaluating episodes: 4/4" in captured.err


def test_the_environment_is_that_of_the_data_if_none_is_named(checkpoint, monkeypatch, capsys):
    assert evaluate(checkpoint, episodes=2, json=True) == 0
    assert json.loads(capsys.readouterr().out)["env"] == "dot"
    monkeypatch.setattr(
        "simscaleai_core.host.registry.load_checkpoint", lambda path, _: {"data": {}}
    )
    with pytest.raises(ConfigError, match=r"final\.pt does not say where .* with --env"):
        evaluate(checkpoint, episodes=2)


@pytest.mark.parametrize(("gate", "status"), [("success_rate>=0.9", 0), ("mean_length<2", 1)])
def test_a_gate_decides_the_exit_status(checkpoint, capsys, gate, status):
    assert evaluate(checkpoint, env="dot", episodes=3, gate=gate, json=True) == status
    assert json.loads(capsys.readouterr().out)["gate_met"] is (status == 0)


def test_a_gate_that_cannot_be_read_stops_before_the_work(tmp_path):
    with pytest.raises(ConfigError, match="gate 'success': expected"):
        evaluate(tmp_path / "missing.pt", env="dot", gate="success")
    with pytest.raises(
        ConfigError, match=r"gate 'success_rate>=1': expected .*'difference>=-0.02'"
    ):
        evaluate(tmp_path / "a.pt", tmp_path / "b.pt", env="dot", gate="success_rate>=1")


def test_two_checkpoints_are_compared_on_the_same_episodes(checkpoint, lame, capsys):
    status = evaluate(checkpoint, lame, episodes=8, gate="difference>=-0.5", json=True)
    found = json.loads(capsys.readouterr().out)
    assert status == 1 and found["gate_met"] is False
    assert found["difference"] == -1.0 and found["only_first"] == 8
    assert found["p_value"] == pytest.approx(2 / 2**8)
    assert found["first"]["seeds"] == found["second"]["seeds"] == found["seeds"]
    assert found["first"]["checkpoint"] == str(checkpoint)
    assert found["second"]["checkpoint"] == str(lame)
    assert found["difference_ci95"][1] < -0.5
    assert found["mean_return_difference_ci95"][1] < 0.0


def test_a_comparison_is_shown_side_by_side(checkpoint, lame, capsys):
    assert evaluate(checkpoint, lame, episodes=2) == 0
    out = capsys.readouterr().out
    assert "first" in out and "second" in out and "difference_ci95" in out
    row = next(line for line in out.splitlines() if line.strip().startswith("success_rate "))
    assert row.split() == ["success_rate", "1.000", "0.000"]


def test_videos_are_written_beside_the_results(checkpoint, tmp_path, capsys):
    assert evaluate(checkpoint, episodes=3, video=tmp_path, video_episodes=2, json=True) == 0
    results = json.loads(capsys.readouterr().out)
    assert [video["seed"] for video in results["videos"]] == [10_000, 10_001]
    assert [video["success"] for video in results["videos"]] == results["successes"][:2]
    for video, length in zip(results["videos"], results["lengths"], strict=False):
        with av.open(video["file"]) as container:
            assert sum(1 for _ in container.decode(video=0)) == length + 1
    assert (tmp_path / "contact_sheet.png").stat().st_size > 1000
    assert results["contact_sheet"] == str(tmp_path / "contact_sheet.png")


def test_options_reach_the_environment(checkpoint, capsys):
    words = ["eval", str(checkpoint), "--episodes", "2", "--env-kwargs.max-episode-steps", "2"]
    assert app.run([*words, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["lengths"] == [2, 2]
    assert results["env_kwargs"] == {"max_episode_steps": 2, "images": 0}
    with pytest.raises(ConfigError, match=r"'dot' with .*'colour': 'red'.* cannot be made"):
        evaluate(checkpoint, episodes=2, env_kwargs={"colour": "red"})


RULES = """
def far(observation, reward, terminated, truncated, info):
    return observation["pos"][0] > 10.0

number = 3
"""


def test_success_may_be_a_function_of_a_file_here(checkpoint, tmp_path, monkeypatch, capsys):
    (tmp_path / "own_success_rules.py").write_text(RULES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [path for path in __import__("sys").path if path])
    assert evaluate(checkpoint, episodes=2, success="own_success_rules:far", json=True) == 0
    assert json.loads(capsys.readouterr().out)["success_rate"] == 0.0
    with pytest.raises(ConfigError, match="'own_success_rules:near' cannot be imported"):
        evaluate(checkpoint, episodes=2, success="own_success_rules:near")
    with pytest.raises(
        ConfigError, match=r"'own_success_rules:number': expected a function of .*, got int"
    ):
        evaluate(checkpoint, episodes=2, success="own_success_rules:number")
    with pytest.raises(ConfigError, match="'no_such_module:rule' cannot be imported"):
        evaluate(checkpoint, episodes=2, success="no_such_module:rule")


def test_any_gymnasium_environment_and_a_policy_of_states(tmp_path, monkeypatch, capsys):
    class Balance:
        hparams = {"use_image": False}

        def predict(self, observation):
            state = observation["state"]
            return (state[..., 2] + state[..., 3] > 0).astype(np.int64)

    (tmp_path / "cart_rules.py").write_text(
        "def stands(o, r, te, truncated, i): return truncated\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("simscaleai_core.host.registry.load_checkpoint", lambda path, _: {})
    monkeypatch.setattr(
        "simscaleai_core.host.registry.read_policy", lambda host, tree, **_: Balance()
    )
    arguments = {"env": "CartPole-v1", "episodes": 2, "success": "cart_rules:stands", "json": True}
    assert evaluate(tmp_path / "x.pt", **arguments, gate="success_rate>=1") == 0
    assert json.loads(capsys.readouterr().out)["lengths"] == [500, 500]
    with pytest.raises(ConfigError, match=r"expected a policy that predicts chunks .* got Balance"):
        evaluate(tmp_path / "x.pt", **arguments, execute=4)
    with pytest.raises(ConfigError, match="'push it' cannot be used"):
        evaluate(tmp_path / "x.pt", **arguments, language="push it")


def test_it_computes_with_as_many_threads_as_it_is_told(checkpoint, monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "7")  # put back afterwards
    try:
        assert evaluate(checkpoint, env="dot", episodes=1, threads=before + 1) == 0
        assert torch.get_num_threads() == before + 1
        assert os.environ["OMP_NUM_THREADS"] == str(before + 1)  # for processes that it starts
    finally:
        torch.set_num_threads(before)
    with pytest.raises(ConfigError, match="threads: expected at least 1, got 0"):
        evaluate(checkpoint, env="dot", threads=0)


def test_another_environment_than_that_of_the_data_is_said(checkpoint, monkeypatch, capsys):
    evaluate(checkpoint, env="toy_plugin/dot", episodes=2)
    assert "warning" not in capsys.readouterr().err
    tree = {"data": {"env": "reach"}}
    monkeypatch.setattr("simscaleai_core.host.registry.load_checkpoint", lambda path, _: tree)
    evaluate(checkpoint, env="dot", episodes=2)
    said = capsys.readouterr().err
    assert "trained on data of the environment 'reach', and is evaluated in 'dot'" in said


def test_it_stops_when_it_knows(checkpoint, lame, capsys):
    assert evaluate(checkpoint, episodes=900, until="success_rate>=0.5", json=True) == 0
    alone = json.loads(capsys.readouterr().out)
    assert alone["decision"] == "met" and alone["ceiling"] == 900
    assert alone["n_episodes"] == alone["looks"][-1][0] < 100
    assert alone["looks"][-1][1:] == alone["success_rate_sequence95"]
    assert evaluate(checkpoint, lame, episodes=900, until="decided", json=True) == 0
    compared = json.loads(capsys.readouterr().out)
    assert compared["decision"] == "the first is better" and compared["n_episodes"] < 100
    assert compared["difference_sequence95"][1] < 0


def test_it_goes_on_to_the_ceiling_while_it_does_not_know(checkpoint, capsys):
    assert evaluate(checkpoint, checkpoint, episodes=60, until="decided", margin=0.02) == 0
    shown = capsys.readouterr().out
    assert "undecided" in shown and "looks" not in shown
    assert evaluate(checkpoint, checkpoint, episodes=900, until="decided", margin=0.5) == 0
    assert "equal" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"until": "decided"}, "expected 'success_rate>=0.95' with one checkpoint"),
        ({"until": "success_rate>0.5"}, "expected 'success_rate>=0.95' with one checkpoint"),
        ({"until": "success_rate>=1.5"}, "expected a number between 0 and 1"),
        ({"margin": 0.1}, "expected --until decided"),
        ({"until": "success_rate>=0.5", "margin": 0.1}, "with two checkpoints"),
    ],
)
def test_a_question_that_is_none_is_refused(checkpoint, given, said):
    with pytest.raises(ConfigError, match=said):
        evaluate(checkpoint, env="dot", **given)
