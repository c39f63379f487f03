"""Sweeps of conditions with the arm: the real command, a trained policy and the experts."""

import json
import subprocess
import sys
from functools import partial

import pytest

pytest.importorskip("simscaleai_plugin_gym", reason="needs simscaleai-plugin-gym")
pytest.importorskip("simscaleai_plugin_bc", reason="needs policies: simscaleai-plugin-bc")

from simscaleai_plugin_gym import EvalConfig, find_expert, make_vector_env, record_episodes
from simscaleai_plugin_gym.commands.control import ExpertControl
from simscaleai_plugin_gym.evaluate.evaluation import measure_policy

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("env", ["reach", "pick_place", "push", "reach_language", "pick_language"])
def test_the_control_acts_as_the_expert_that_records(env, tmp_path):
    """It also gets what the language tasks tell experts alone."""
    seeds = range(10_000, 10_006)
    vector = make_vector_env(env, 3, images=0)
    control = ExpertControl(env, find_expert(env))
    measured = measure_policy(vector, control, EvalConfig(seeds=seeds))
    vector.close()
    recorded = record_episodes(
        env, tmp_path / "r.h5", episodes=6, seed=10_000, env_kwargs={"images": 0}
    )
    assert sum(measured.successes) == recorded.successes >= 5
    assert sum(measured.lengths) == recorded.env_steps


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("sweep")
    call("record", "--env", "pick_place", "--episodes", 150, "--output", place / "p.h5")
    call("train", "--dataset", place / "p.h5", "--lr", 1e-3, "--batch-size", 256, "--max-steps",
         1000, "--warmup-steps", 100, "--checkpoint-dir", place / "bc")  # fmt: skip
    return place


def call(*words):
    command = [sys.executable, "-m", "simscaleai_core", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr


def test_a_delay_is_worse_for_the_policy_than_for_the_expert(folder):
    sweep = partial(
        call, "eval", folder / "bc/final.pt", "--episodes", 40, "--vary", "delay=0,1",
        "--vary", "friction=0.5,1", "--output",
    )  # fmt: skip
    sweep(folder / "one.json")
    sweep(folder / "two.json", "--workers", 2)
    found, other = (json.loads((folder / f"{n}.json").read_text()) for n in ("one", "two"))
    assert found.pop("wall_s") != other.pop("wall_s") and found == other
    assert found["env"] == "pick_place" and found["nominal"] == {"delay": 0, "friction": 1}
    cells = {(c["policy"] == "expert", *c["condition"].values()): c for c in found["cells"]}
    policy, expert = cells[False, 1, 1], cells[True, 1, 1]
    assert cells[False, 0, 1]["success_rate"] > 0.8 and expert["success_rate"] > 0.85
    assert policy["success_rate"] < 0.5 and policy["p_value_corrected"] < 0.001
    assert policy["difference_ci95"][1] < -0.2
    for cell in found["cells"]:
        drawn = {condition.get("friction", 1) for condition in cell["initial_conditions"]}
        assert drawn == {cell["condition"]["friction"]}
        places = [
            {k: v for k, v in c.items() if k != "friction"} for c in cell["initial_conditions"]
        ]
        assert len(places) == 40 and places[0]["object_x"] != places[1]["object_x"]
        assert places == [
            {k: v for k, v in c.items() if k != "friction"} for c in expert["initial_conditions"]
        ]
