import json

import h5py
import pytest
from simscaleai_plugin_gym.commands.envs import envs
from simscaleai_plugin_gym.commands.record import record

from simscaleai_core.cli import app
from simscaleai_core.errors import ConfigError


def test_record_prints_one_json_object_and_writes_the_file(tmp_path, capsys):
    path = tmp_path / "reach.h5"
    assert record(env="dot", output=path, episodes=3, seed=4, noise=0.1, json=True) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["n_episodes"] == 3 and facts["success_rate"] == 1.0
    assert facts["output"] == str(path) and facts["bytes"] == path.stat().st_size


def test_record_prints_a_table(tmp_path, capsys):
    assert record(env="dot", output=tmp_path / "r.h5", episodes=2) == 0
    out = capsys.readouterr().out
    assert "success_rate" in out and "1.000" in out


def run(*words):
    return app.run([str(word) for word in ("record", *words)])


def test_record_takes_every_option_from_the_command_line(tmp_path, monkeypatch, capsys):
    path = tmp_path / "p.h5"
    command = ["--env", "recording_toys:Toys/Point-v0", "--expert", "recording_toys:go_single",
               "--expert-single", "--episodes", 3, "--output", path, "--only-successes",
               "--env-kwargs.reachable", 0.5, "--env-kwargs.form", "box", "--max-steps", 20,
               "--max-attempts", 50, "--num-envs", 2, "--seed", 7]  # fmt: skip
    assert run(*command, "--json") == 0
    captured = capsys.readouterr()
    facts = json.loads(captured.out)
    assert facts["n_episodes"] == 3 < facts["attempts"]
    assert facts["success_rate"] == 3 / facts["attempts"]
    assert captured.err.splitlines()[-1] == "recording episodes: 3/3"
    with h5py.File(path) as file:
        assert json.loads(file.attrs["env_spec"])["kwargs"] == {"form": "box", "reachable": 0.5}
    assert run(*command) == 2
    assert "exists already" in capsys.readouterr().err
    assert run(*command, "--overwrite", "--noise", 0.1) == 0


def test_images_are_passed_on(tmp_path):
    path = tmp_path / "r.h5"
    assert run("--env", "dot", "--episodes", 1, "--images", 32, "--output", path) == 0
    with h5py.File(path) as file:
        assert file["episode_0/observations/image"].shape[1:] == (32, 32, 3)


def test_cameras_are_passed_on(tmp_path, capsys):
    path = tmp_path / "r.h5"
    assert run("--env", "dot", "--episodes", 1, "--cameras", "top,side", "--output", path) == 2
    assert "'dot' with {'cameras': ('top', 'side')} cannot be made" in capsys.readouterr().err


def test_an_expert_that_fails_is_one_line_and_the_rest_on_request(tmp_path, monkeypatch, capsys):
    command = ["--env", "recording_toys:Toys/Point-v0", "--expert", "recording_toys:breaks",
               "--episodes", 9, "--output", tmp_path / "p.h5"]  # fmt: skip
    assert run(*command) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("error: expert 'recording_toys:breaks' failed at seed ")
    assert "ZeroDivisionError: a goal on the right" in line
    assert run(*command, "--traceback") == 2
    assert "recording_toys.py" in capsys.readouterr().err


def test_envs_lists_what_plugins_declare(capsys):
    assert envs(json=True) == 0
    rows = json.loads(capsys.readouterr().out)["envs"]
    assert [row["name"] for row in rows] == ["cart", "dot", "lost"]
    assert envs() == 0
    captured = capsys.readouterr()
    assert "Toys/Dot-v0" in captured.out and captured.err == ""


def test_envs_with_a_name_says_what_can_be_varied(capsys):
    assert envs("dot", json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["name"], found["gymnasium_id"]) == ("dot", "Toys/Dot-v0")
    assert found["variations"]["stride"] == {"meaning": "length of a step", "default": 1}
    assert found["variations"]["control_rate"]["default"] == 1.0
    assert envs("dot") == 0
    captured = capsys.readouterr()
    assert "length of a step" in captured.out and "observation of a step is lost" in captured.out
    assert captured.err == ""
    assert envs("MountainCar-v0", json=True) == 0
    assert json.loads(capsys.readouterr().out)["variations"]["goal_velocity"]["default"] == 0
    with pytest.raises(ConfigError, match=r"unknown environment 'dott'.* Did you mean 'dot'"):
        envs("dott")


def test_without_any_environment_envs_still_says_what_works(monkeypatch, capsys):
    monkeypatch.delenv("SIMSCALE_PLUGIN")
    assert envs() == 0
    captured = capsys.readouterr()
    assert captured.out == "" and "any Gymnasium id works" in captured.err
    assert envs(json=True) == 0
    assert json.loads(capsys.readouterr().out) == {"envs": []}


def test_recommended_noise_is_said_and_gives_way_to_what_is_given(tmp_path, capsys):
    def noise(name, *words):
        path = tmp_path / name
        assert run("--env", "dot", "--episodes", 1, "--output", path, *words) == 0
        with h5py.File(path) as file:
            return file.attrs["noise"]

    assert noise("a.h5", "--recommended") == 0.2
    assert "recommended settings: --noise 0.2" in capsys.readouterr().err
    assert noise("b.h5", "--recommended", "--noise", 0) == 0.0
    assert noise("c.h5") == 0.0
    assert "recommended settings" not in capsys.readouterr().err
    assert run("--env", "cart", "--recommended", "--output", tmp_path / "d.h5") == 2
    assert "'cart' recommends no noise" in capsys.readouterr().err
