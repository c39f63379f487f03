"""From the failures of a policy to data that makes up for them, in the arm's simulation."""

import json

import h5py
import numpy as np
import pytest
from simscaleai_plugin_gym import find_expert, make_vector_env
from simscaleai_plugin_gym.envs.adapter import adapt_env
from simscaleai_plugin_gym.envs.conditions import condition_at

from simscaleai_core.cli import app

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:near-constant dimensions"),  # the cube lies flat at first
]
pytest.importorskip("simscaleai_plugin_bc", reason="needs a policy: simscaleai-plugin-bc")
pytest.importorskip("simscaleai_plugin_sim", reason="needs a task: simscaleai-plugin-sim")
QUANTITIES = ("object_x", "object_y", "target_x", "target_y")


@pytest.fixture(autouse=True, scope="module")
def _with_tasks(_toys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMSCALE_PLUGINS", "gym,hdf5,bc,sim")
        patch.delenv("SIMSCALE_PLUGIN")
        yield


def run(capsys, *words):
    assert app.run([str(word) for word in (*words, "--json")]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def how_they_begin(seeds):
    env = make_vector_env("pick_place", len(seeds))
    adapter = adapt_env(env)
    observation, infos = adapter.reset(list(seeds), np.ones(len(seeds), dtype=bool))
    found = [condition_at(adapter, observation, infos, index) for index in range(len(seeds))]
    env.close()
    return np.array([[each[name] for name in QUANTITIES] for each in found])


def test_failures_become_data_that_trains(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    train = ("train", "--model", "bc", "--lr", 1e-3, "--warmup-steps", 20, "--max-steps", 300,
             "--num-workers", 0, "--device", "cpu")  # fmt: skip
    run(capsys, "record", "--env", "pick_place", "--episodes", 20, "--output", "old.h5")
    run(capsys, *train, "--dataset", "old.h5", "--checkpoint-dir", "old")
    run(capsys, "eval", "old/final.pt", "--episodes", 40, "--failures", "fails",
        "--video-episodes", 1)  # fmt: skip
    table = json.loads((tmp_path / "fails/conditions.json").read_text())
    failed = [c for c, done in zip(table["initial_conditions"], table["successes"], strict=True)
              if not done]  # fmt: skip
    assert failed and set(QUANTITIES) <= set(failed[0])

    for name, workers in (("near.h5", 1), ("again.h5", 2)):
        said = run(capsys, "record", "--like", "fails", "--episodes", 8, "--output", name,
                   "--workers", workers)  # fmt: skip
        assert said["env"] == "pick_place" and said["success_rate"] == 1.0
    assert (tmp_path / "near.h5").read_bytes() == (tmp_path / "again.h5").read_bytes()
    with h5py.File("near.h5") as file:
        seeds = [int(file[f"episode_{i}"].attrs["seed"]) for i in range(8)]
    assert all(100_000 <= seed < 100_320 for seed in seeds)
    where = np.array([[c[name] for name in QUANTITIES] for c in failed])

    def distance(seeds):
        return np.linalg.norm(how_they_begin(seeds)[:, None] - where, axis=-1).min(axis=1).mean()

    assert distance(seeds) < 0.9 * distance(range(100_000, 100_320))

    run(capsys, "record", "--policy", "old/final.pt", "--labels", "expert", "--seed", 700,
        "--episodes", 4, "--output", "visited.h5")  # fmt: skip
    with h5py.File("visited.h5") as file:
        for episode in file.values():
            seen = {key: episode["observations"][key][()] for key in episode["observations"]}
            expected = np.clip(find_expert("pick_place")(seen), -1, 1)
            np.testing.assert_array_equal(episode["actions"][()], expected)
    several = [word for name in ("old", "near", "visited") for word in ("--dataset", f"{name}.h5")]
    assert run(capsys, *train, *several, "--checkpoint-dir", "new")["global_step"] == 300
