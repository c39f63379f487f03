"""Where tasks run: by name, with options; what comes of them does not depend on it."""

import json
from pathlib import Path

import pytest
from simscaleai_plugin_gym import find_expert, record_episodes
from simscaleai_plugin_gym.commands.evaluate import evaluate
from simscaleai_plugin_gym.evaluate.measurement import Measurement, results_of
from simscaleai_plugin_gym.evaluate.timing import Times
from simscaleai_plugin_gym.evaluate.workers import split_seeds
from simscaleai_plugin_gym.executors.choice import choose_executor, with_executor_options

from simscaleai_core.errors import ConfigError, PluginError, UnknownComponentError

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def plugins(monkeypatch):
    both = f"{HERE / 'toy_plugin.py'},{HERE / 'executor_plugin.py'}"
    monkeypatch.setenv("SIMSCALE_PLUGIN", both)
    from executor_plugin import Elsewhere

    Elsewhere.rooms.clear()
    return Elsewhere


class Expert:
    hparams = {"use_image": False}

    def predict(self, observation):
        return find_expert("dot")(observation)


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr("simscaleai_core.host.registry.read_policy", lambda *_, **__: Expert())
    tree = {"data": {"env": "dot"}}
    monkeypatch.setattr("simscaleai_core.host.registry.load_checkpoint", lambda path, _: tree)
    return tmp_path / "final.pt"


@pytest.mark.parametrize("only_successes", [False, True])
def test_a_file_recorded_elsewhere_is_the_same(tmp_path, plugins, only_successes):
    seen = []
    given = {"episodes": 40, "noise": 0.3, "max_steps": 10, "only_successes": only_successes}
    here = record_episodes("dot", tmp_path / "here.h5", **given)
    there = record_episodes("dot", tmp_path / "there.h5", **given, on="elsewhere", workers=4,
                            on_options={"elsewhere": {"room": 3}}, on_episode=seen.append)  # fmt: skip
    assert there.path.read_bytes() == here.path.read_bytes()
    assert len(seen) >= there.attempts == here.attempts
    assert len({episode.seed for episode in seen}) == len(seen)
    assert plugins.rooms == [(3, 4)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["here.h5", "there.h5"]


def test_results_from_elsewhere_are_the_same(checkpoint, capsys):
    def run(*others, **given):
        assert evaluate(checkpoint, *others, episodes=30, max_steps=10, json=True, **given) == 0
        found = json.loads(capsys.readouterr().out)
        for side in (found, found.get("first", {}), found.get("second", {})):
            for name in ("wall_s", "predict_ms", "policy_share", "env_share", "physics_share"):
                side.pop(name, None)
        return found

    assert run(on="elsewhere") == run()
    assert run(checkpoint, on="elsewhere") == run(checkpoint)


def test_the_options_are_flags(monkeypatch):
    def command(*, on: str = "local", on_options=None):
        """Do it."""
        return on, on_options

    extended = with_executor_options(command)
    flags = extended.__signature__.parameters
    assert list(flags) == ["on", "elsewhere__room"]
    assert extended(on="elsewhere", elsewhere__room=3) == ("elsewhere", {"elsewhere": {"room": 3}})
    assert extended() == ("local", {})


def test_what_cannot_be_chosen_is_said():
    with pytest.raises(UnknownComponentError, match=r"unknown executor 'moon'. Installed: elsewh"):
        choose_executor("moon")
    with pytest.raises(ConfigError, match=r"option --elsewhere.room is of .* Add --on elsewhere"):
        choose_executor("local", {"elsewhere": {"room": 2}})
    with pytest.raises(ConfigError, match=r"expected int, got str 'x' @ \$.elsewhere.room"):
        choose_executor("elsewhere", {"elsewhere": {"room": "x"}})


def test_a_plugin_whose_executors_fail_is_named(tmp_path, monkeypatch):
    (tmp_path / "broken_executors.py").write_text(
        "from simscaleai_core.plugin import PluginInfo, hookimpl\nPLUGIN = PluginInfo(summary='x')\n"
        "@hookimpl\ndef gym_register_executors():\n    raise ValueError('no licence')\n"
    )
    monkeypatch.setenv("SIMSCALE_PLUGIN", str(tmp_path / "broken_executors.py"))
    with pytest.raises(PluginError, match=r"gym_register_executors failed: ValueError: no licence"):
        choose_executor("local")


def test_tasks_hold_every_seed_once_and_environments_seldom_idle():
    for episodes in (1, 7, 25, 26, 50, 200, 1001):
        for most in (1, 5, 8, 24, 32, 300):
            num_envs, parts = split_seeds(range(100, 100 + episodes), most)
            assert [seed for part in parts for seed in part] == list(range(100, 100 + episodes))
            assert num_envs <= most and max(map(len, parts)) < 25 + max(num_envs, 25)
            assert all(len(part) % num_envs == 0 for part in parts[:-1])


def test_parts_are_merged_in_order():
    def part(seeds, instructions, physics_s):
        n = len(seeds)
        return Measurement(
            seeds=seeds, successes=[True] + [False] * (n - 1), successes_at_end=[False] * n,
            returns=[float(seed) for seed in seeds], lengths=[2] * n, instructions=instructions,
            seeds_obeyed=True, initial_conditions=[{"x": float(seed)} for seed in seeds],
            times=Times(wall_s=4.0, predict_s=(1.0,) * n, env_s=1.0, physics_s=physics_s),
        )  # fmt: skip

    found = results_of([part([3, 4], None, 0.5), part([5], ["go"], 1.5)], wall_s=5.0)
    assert found["seeds"] == [3, 4, 5] and found["successes"] == [True, False, True]
    assert found["mean_return"] == 4.0 and found["env_steps"] == 6
    assert found["initial_conditions"] == [{"x": 3.0}, {"x": 4.0}, {"x": 5.0}]
    assert found["instructions"] == ["", "", "go"]
    assert (found["wall_s"], found["policy_share"]) == (5.0, 3 / 8)
    assert (found["env_share"], found["physics_share"]) == (0.25, 0.25)
    assert found["predict_ms"]["calls"] == 3
    alone = results_of([part([3], None, None), part([4], None, 1.0)])
    assert alone["wall_s"] == 8.0 and alone["physics_share"] is None and "instructions" not in alone
