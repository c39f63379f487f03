import json
from types import SimpleNamespace

import pytest
from simscaleai_plugin_sim import catalog, find_expert
from simscaleai_plugin_sim.commands import envs, evaluate, record

from simscaleai_core.errors import ConfigError


class Expert:
    def predict(self, observation):
        return find_expert("reach")(observation)


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """A checkpoint whose policy is the expert; reading checkpoints is the core's and tested there."""
    monkeypatch.setattr("simscaleai_core.registry.load_policy", lambda path: Expert())
    return tmp_path / "final.pt"


def test_record_prints_one_json_object_and_writes_the_file(tmp_path, capsys):
    path = tmp_path / "reach.h5"
    assert record(env="reach", output=path, episodes=3, seed=4, noise=0.1, json=True) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["n_episodes"] == 3 and facts["success_rate"] == 1.0
    assert facts["output"] == str(path) and facts["bytes"] == path.stat().st_size


def test_record_prints_a_table(tmp_path, capsys):
    assert record(env="reach", output=tmp_path / "r.h5", episodes=2) == 0
    out = capsys.readouterr().out
    assert "success_rate" in out and "1.000" in out


def test_evaluate_prints_one_json_object_and_writes_it(checkpoint, tmp_path, capsys):
    output = tmp_path / "results" / "eval.json"
    assert evaluate(checkpoint, env="reach", episodes=6, output=output, json=True) == 0
    results = json.loads(capsys.readouterr().out)
    assert results == json.loads(output.read_text())
    assert results["success_rate"] == 1.0 and results["seeds"][0] == 10_000
    assert results["checkpoint"] == str(checkpoint) and results["env"] == "reach"


def test_evaluate_prints_the_rate_with_its_interval(checkpoint, capsys):
    assert evaluate(checkpoint, env="reach", episodes=4) == 0
    captured = capsys.readouterr()
    assert "success_rate_ci95" in captured.out and "[0.510, 1.000]" in captured.out
    assert "seeds" not in captured.out
    assert "evaluating episodes: 4/4" in captured.err


@pytest.mark.parametrize(("gate", "status"), [("success_rate>=0.9", 0), ("mean_length<2", 1)])
def test_a_gate_decides_the_exit_status(checkpoint, capsys, gate, status):
    assert evaluate(checkpoint, env="reach", episodes=3, gate=gate, json=True) == status
    assert json.loads(capsys.readouterr().out)["gate_met"] is (status == 0)


def test_a_gate_that_cannot_be_read_stops_before_the_work(tmp_path):
    with pytest.raises(ConfigError, match="gate 'success': expected"):
        evaluate(tmp_path / "missing.pt", env="reach", gate="success")


def test_envs_lists_ours(monkeypatch, capsys):
    others = SimpleNamespace(component_names=lambda kind: ["sim/reach", "acme/lift"])
    monkeypatch.setattr(catalog, "_installed", lambda: others)
    assert envs(json=True) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)["envs"]] == [
        "reach",
        "acme/lift",
    ]
    assert envs() == 0
    assert "SimScale/Reach-v0" in capsys.readouterr().out
