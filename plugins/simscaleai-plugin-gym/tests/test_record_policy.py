"""Recording what a policy does or visits, with its own labels or the expert's."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
import recording_toys
from simscaleai_plugin_gym import make_env, record_episodes
from simscaleai_plugin_gym.commands.record import record
from simscaleai_plugin_gym.record.experts import ExpertError

from simscaleai_core.cli import app
from simscaleai_core.errors import CheckpointError, ConfigError

HERE = Path(__file__).parent
POINT = "recording_toys:Toys/Point-v0"
pytestmark = pytest.mark.slow
pytest.importorskip("simscaleai_plugin_bc", reason="needs policies: simscaleai-plugin-bc")


@pytest.fixture(autouse=True, scope="module")
def _with_policies(_toys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMSCALE_PLUGINS", "gym,hdf5,bc")
        yield


def command(*words):
    return [sys.executable, "-m", "simscaleai_core", *map(str, words)]


ENVIRON = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two poor policies: one of single actions, one that samples chunks of them."""
    place = tmp_path_factory.mktemp("policies")
    data = place / "p.h5"
    record_episodes(POINT, data, episodes=20, expert="recording_toys:go", noise=0.1)
    for model in ("bc", "flow"):
        words = ("train", "--model", model, "--dataset", data, "--max-steps", 40,
                 "--warmup-steps", 5, "--checkpoint-dir", place / model)  # fmt: skip
        done = subprocess.run(
            command(*words), env=ENVIRON, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    return place


@pytest.fixture
def run(folder, tmp_path):
    """Record what a policy visits; return the file."""

    def run(name, model="bc", expert="recording_toys:go", **arguments):
        path = tmp_path / name
        policy = folder / model / "final.pt"
        arguments = {"episodes": 6, "seed": 30, "policy": policy, "expert": expert, **arguments}
        record_episodes(POINT, path, **arguments)
        return path

    return run


own = partial(dict, expert=None, labels="policy")


def episodes(path):
    with h5py.File(path) as file:
        return [
            (file[f"episode_{i}/observations/state"][()], file[f"episode_{i}/actions"][()],
             dict(file[f"episode_{i}"].attrs))
            for i in range(len(file))
        ]  # fmt: skip


@pytest.mark.parametrize("model", ["bc", "flow"])
def test_the_labels_are_the_experts_where_the_policy_goes(run, model):
    own_way, asked = episodes(run("own.h5", model, **own())), episodes(run("asked.h5", model))
    differ = 0
    for (visited, chosen, about), (seen, labels, told) in zip(own_way, asked, strict=True):
        np.testing.assert_array_equal(visited, seen)
        expected = recording_toys.go({"state": seen})
        np.testing.assert_array_equal(labels, np.clip(expected, -1, 1))
        assert about == told
        differ += not np.array_equal(chosen, labels)
    assert differ == 6


@pytest.mark.parametrize("model", ["bc", "flow"])
def test_a_policys_own_actions_lead_where_it_went(run, model):
    env = make_env(POINT)
    for observations, actions, about in episodes(run("own.h5", model, **own())):
        state, _ = env.reset(seed=int(about["seed"]))
        for expected, action in zip(observations, actions, strict=True):
            np.testing.assert_array_equal(state, expected)
            state, *_ = env.step(action.astype(np.float32))


@pytest.mark.parametrize("model", ["bc", "flow"])
def test_the_file_depends_on_nothing_but_what_was_recorded(run, model):
    wanted = {"episodes": 40, "noise": 0.1, "model": model}
    one = run("one.h5", **wanted).read_bytes()
    assert run("two.h5", workers=2, **wanted).read_bytes() == one
    assert run("three.h5", workers=3, num_envs=5, **wanted).read_bytes() == one
    later = episodes(run("later.h5", **{**wanted, "episodes": 3, "seed": 67}))
    for one_by_one, together in zip(later, episodes(run("again.h5", **wanted))[37:], strict=True):
        np.testing.assert_array_equal(one_by_one[1], together[1])


def test_another_machine_gets_the_policy(run, monkeypatch):
    monkeypatch.setenv("SIMSCALE_PLUGIN", str(HERE / "executor_plugin.py"))
    assert run("there.h5", on="elsewhere", workers=2).read_bytes() == run("here.h5").read_bytes()


def test_noise_is_executed_and_not_stored(run):
    clean, noisy = episodes(run("a.h5")), episodes(run("b.h5", noise=0.3))
    for (seen, _, _), (other, labels, _) in zip(clean, noisy, strict=True):
        np.testing.assert_array_equal(seen[0], other[0])
        assert not np.array_equal(seen[1], other[1])
        np.testing.assert_array_equal(labels, np.clip(recording_toys.go({"state": other}), -1, 1))


def test_the_file_says_who_acted(run, folder):
    with h5py.File(run("a.h5")) as file:
        about = dict(file.attrs)
    assert about["policy"] == str(folder / "bc/final.pt") and about["labels"] == "expert"
    assert about["expert"] == "recording_toys:go"
    with h5py.File(run("b.h5", **own())) as file:
        assert file.attrs["labels"] == "policy" and "expert" not in file.attrs


@pytest.mark.parametrize("unknown", ["nan", "inf"])
def test_an_episode_ends_where_the_expert_does_not_know(run, unknown):
    expert = partial(recording_toys.lost, unknown=float(unknown))
    whole, cut = episodes(run("a.h5")), episodes(run("b.h5", expert=expert))
    shorter = 0
    for (seen, _, _), (known, labels, about) in zip(whole, cut, strict=True):
        far = np.flatnonzero(np.abs(seen[:, :2]).max(axis=1) > 1.2)
        length = far[0] if len(far) else len(seen)
        assert len(known) == len(labels) == length and np.isfinite(labels).all()
        np.testing.assert_array_equal(known, seen[:length])
        if length < len(seen):
            shorter += 1
            assert not about["success"]
    assert shorter


def test_an_expert_that_raises_is_named_with_what_it_could_do_instead(run):
    message = (
        r"'recording_toys:gives_up' failed at seed 3\d: ValueError: too far\. Fix the expert, "
    )
    with pytest.raises(ExpertError, match=message + "or give NaN where it does not know"):
        run("a.h5", expert="recording_toys:gives_up")
    with pytest.raises(ExpertError, match=r"at seed 3.: expected finite actions"):
        run("b.h5", expert="recording_toys:nan_here")


def test_a_killed_recording_continues(folder, tmp_path):
    path = tmp_path / "k.h5"
    policy = folder / "flow" / "final.pt"
    words = ("record", "--env", POINT, "--expert", "recording_toys:go", "--policy", policy,
             "--episodes", 60, "--env-kwargs.slow-s", 0.004, "--output", path)  # fmt: skip
    process = subprocess.Popen(
        command(*words), env=ENVIRON, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not list(Path(f"{path}.parts").glob("shard_*.json")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert not path.exists()
    done = subprocess.run(
        command(*words, "--json"),
        env=ENVIRON,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n_resumed"] in {25, 50}
    whole = tmp_path / "whole.h5"
    record_episodes(POINT, whole, episodes=60, expert="recording_toys:go", policy=policy,
                    env_kwargs={"slow_s": 0.004})  # fmt: skip
    assert whole.read_bytes() == path.read_bytes()


def test_another_policy_is_no_continuation(run, folder, tmp_path):
    def stop(facts):
        if facts.seed == 56:
            raise KeyboardInterrupt

    policy = shutil.copy(folder / "bc/final.pt", tmp_path / "policy.pt")
    again = partial(run, "p.h5", episodes=60, policy=policy)
    with pytest.raises(KeyboardInterrupt):
        again(on_episode=stop)
    with pytest.raises(ConfigError, match="labels: begun with 'expert', now 'policy'"):
        again(**own())
    with pytest.raises(ConfigError, match="success: begun with 'nothing', now 'is_success'"):
        again(success="is_success")
    shutil.copy(folder / "flow/final.pt", policy)
    with pytest.raises(ConfigError, match="BLAKE2b of the policy's checkpoint: begun with"):
        again()
    shutil.copy(folder / "bc/final.pt", policy)
    assert len(episodes(again())) == 60


WRONG = {
    "no policy": ({"policy": None, "labels": "policy"}, "expected a policy, got none"),
    "labels": ({"labels": "mine"}, "labels: expected one of expert, policy, got 'mine'"),
    "expert": ({"labels": "policy"}, "labels 'policy': expected no expert"),
    "relabel": (own(relabel=True), "labels 'policy': expected no relabel"),
    "missing": ({"policy": "nowhere.pt"}, "policy 'nowhere.pt': expected a checkpoint"),
    "success": ({"success": "os:system"}, "is of Python's standard library"),
    "unknown": ({"success": "done_well"}, r"searched info\['done_well'\]\. Say what success is"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_recorded(run, tmp_path, name):
    arguments, message = WRONG[name]
    with pytest.raises(ConfigError, match=message):
        run("a.h5", **arguments)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_checkpoint(run, tmp_path):
    (tmp_path / "policy.pt").write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match=r"policy\.pt"):
        run("a.h5", policy=tmp_path / "policy.pt")


def test_success_is_what_the_user_says(tmp_path, capsys):
    words = ("--env", POINT, "--expert", "recording_toys:go", "--episodes", 20, "--json")
    rates = {}
    for name, more in (
        ("usual", ()), ("key", ("--success", "is_success")),
        ("rule", ("--success", "recording_toys:arrived")),
        ("kept", ("--success", "recording_toys:arrived", "--only-successes")),
    ):  # fmt: skip
        output = ("--output", tmp_path / f"{name}.h5", "--env-kwargs.reachable", 0.5)
        assert app.run([str(word) for word in ("record", *words, *more, *output)]) == 0
        rates[name] = json.loads(capsys.readouterr().out)["success_rate"]
    assert rates["usual"] == rates["key"] < rates["rule"] == rates["kept"] == 1.0


def test_success_makes_an_environment_recordable_that_reports_none(run):
    silent = {"env_kwargs": {"reports": False}, "policy": None, "only_successes": True}
    with pytest.raises(ConfigError, match="does not report whether"):
        run("a.h5", **silent)
    for _, _, about in episodes(run("b.h5", success="recording_toys:arrived", **silent)):
        assert about["success"]


def test_the_environment_is_that_of_the_policys_data(folder, tmp_path, capsys):
    policy = folder / "bc/final.pt"
    record(output=tmp_path / "a.h5", policy=policy, labels="policy", episodes=2, json=True)
    captured = capsys.readouterr()
    assert json.loads(captured.out)["env"] == POINT and "warning" not in captured.err
    record(env="recording_toys:Toys/Endless-v0", output=tmp_path / "b.h5", policy=policy,
           labels="policy", episodes=2, max_steps=5)  # fmt: skip
    said = capsys.readouterr().err
    assert (
        f"data of the environment '{POINT}', and acts in 'recording_toys:Toys/Endless-v0'" in said
    )
