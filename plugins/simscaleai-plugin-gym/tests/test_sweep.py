import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from simscaleai_plugin_gym.commands.evaluate import evaluate
from simscaleai_plugin_gym.envs.variations import variations_of
from simscaleai_plugin_gym.evaluate.intervals import mcnemar_exact
from simscaleai_plugin_gym.evaluate.power import episodes_for, paired_episodes
from simscaleai_plugin_gym.evaluate.sweep import cells_of, sweep_of, varied_from_texts
from toy_dot import expert

from simscaleai_core.errors import ConfigError

NAMES = ("observation_noise", "dropped_observations", "action_gain", "stride")


class Policy:
    """The expert of the dot with a gain of its own, as a trained policy acts."""

    hparams = {"use_image": False}

    def __init__(self, gain):
        self.gain = gain

    def predict(self, observation):
        return self.gain * expert(observation)


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    """Checkpoints by name; reading them is the core's, and tested there."""
    policies = {"good": Policy(1.0), "lame": Policy(0.02), "weak": Policy(0.5)}
    monkeypatch.setattr(
        "simscaleai_core.host.registry.read_policy",
        lambda host, tree, path, **_: policies[path.stem],
    )
    tree = {"data": {"env": "dot"}}
    monkeypatch.setattr("simscaleai_core.host.registry.load_checkpoint", lambda path, _: tree)
    return [tmp_path / f"{name}.pt" for name in policies]


def swept(capsys, *arguments, **given):
    assert evaluate(*arguments, env="dot", json=True, **given) == 0
    return json.loads(capsys.readouterr().out)


def test_every_policy_meets_every_condition_on_the_same_seeds(checkpoints, tmp_path, capsys):
    output = tmp_path / "sweep.json"
    vary = ["action-gain=0.02,1", "delay=0,2"]
    found = swept(capsys, *checkpoints[:2], vary=vary, episodes=4, output=output)
    assert found == json.loads(output.read_text())
    assert found["kind"] == "sweep" and found["env"] == "dot"
    assert found["varied"] == {"action_gain": [0.02, 1], "delay": [0, 2]}
    assert found["nominal"] == {"action_gain": 1, "delay": 0}
    assert found["policies"] == [*map(str, checkpoints[:2]), "expert"]
    assert found["seeds"] == list(range(10_000, 10_004)) and found["n_episodes"] == 4
    assert len(found["cells"]) == 3 * 4
    by = {(c["policy"], *c["condition"].values()): c for c in found["cells"]}
    good = str(checkpoints[0])
    assert by[good, 1, 0]["success_rate"] == 1.0 and by[good, 0.02, 0]["success_rate"] == 0.0
    begun = by[good, 1, 0]["initial_conditions"]
    assert len(begun) == 4 and all(c["initial_conditions"] == begun for c in found["cells"])


def test_the_difference_is_to_the_nominal_condition_of_the_same_policy(checkpoints, capsys):
    found = swept(capsys, checkpoints[0], vary=["action_gain=0.02,1"], no_control=True, episodes=10)
    worst, nominal = found["cells"]
    assert worst["difference"] == -1.0 and worst["successes"] == [False] * 10
    assert worst["p_value"] == worst["p_value_corrected"] == pytest.approx(2 / 2**10)
    assert worst["difference_ci95"][0] == -1.0 and worst["difference_ci95"][1] < -0.5
    assert (nominal["difference"], nominal["p_value"]) == (0.0, 1.0)
    assert "worst with action_gain 0.02" in found["answer"][0]


@pytest.mark.slow
def test_an_evaluation_of_each_condition_alone_says_the_same(checkpoints, capsys):
    found = swept(capsys, checkpoints[2], vary=["stride=1,0.4"], episodes=30)
    alone = {}
    for stride in (1, 0.4):
        options = {"stride": stride}
        assert evaluate(checkpoints[2], episodes=30, env_kwargs=options, json=True) == 0
        alone[stride] = json.loads(capsys.readouterr().out)
    for cell in found["cells"][:2]:
        wanted = alone[cell["condition"]["stride"]]
        assert cell["successes"] == wanted["successes"]
        assert cell["success_rate_ci95"] == wanted["success_rate_ci95"]
    assert 0.0 < found["cells"][1]["success_rate"] < 1.0


def test_it_is_corrected_for_all_conditions_of_all_policies():
    sweep = sweep_of({"delay": [0, 1, 2]}, "dot", {})
    wins = {0: [True] * 12, 1: [True] * 6 + [False] * 6, 2: [True] * 5 + [False] * 7}
    results = [[result(wins[delay]) for delay in (0, 1, 2)], [result(wins[0])] * 3]
    cells = cells_of(sweep, ["one", "two"], results)
    raw = [2 / 2**6, 2 / 2**7, 1.0, 1.0]
    tested = [cell for cell in cells if cell["condition"] != sweep.nominal]
    assert [cell["p_value"] for cell in tested] == pytest.approx(raw)
    corrected = [max(3 * raw[0], 4 * raw[1]), 4 * raw[1], 1.0, 1.0]  # of four
    assert [cell["p_value_corrected"] for cell in tested] == pytest.approx(corrected)
    nominal = [cell for cell in cells if cell["condition"] == sweep.nominal]
    assert [cell["p_value_corrected"] for cell in nominal] == [1.0, 1.0]


def result(successes):
    about = {"success_rate": float(np.mean(successes)), "success_rate_ci95": [0.0, 1.0]}
    about |= {"n_episodes": len(successes), "mean_return": 0.0, "mean_length": 1.0}
    return {**about, "successes": successes, "initial_conditions": [{}] * len(successes)}


@pytest.mark.parametrize(
    ("varied", "nominal"),
    [
        ({"action_gain": [0.5, 1], "delay": [2, 0]}, {"action_gain": 1, "delay": 0}),
        ({"action_gain": [0.5, 0.7], "delay": [1, 2]}, {"action_gain": 0.5, "delay": 1}),
        ({"stride": [3, 1.0], "control_rate": [0.5]}, {"stride": 1, "control_rate": 0.5}),
    ],
)
def test_nominal_is_the_default_if_it_is_there(varied, nominal):
    assert sweep_of(varied, "dot", variations_of("dot")).nominal == nominal


def test_the_numeric_options_of_any_environment_can_be_varied():
    found = variations_of("recording_toys:Toys/Point-v0")
    assert {name: each.default for name, each in found.items()} == {"slow_s": 0.0, "reachable": 1.0}
    sweep = sweep_of(varied_from_texts(["reachable=0.5,1"]), "point", found)
    assert sweep.nominal == {"reachable": 1} and len(sweep.conditions) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("vary", "shown"),
    [
        (["stride=1,0.1"], "stride  success             change   p\n1       1.00 [0.72, 1.00]"),
        (["stride=1,0.1", "delay=0,1,2"], "stride  delay 0"),
        (["stride=1,0.1", "delay=0", "action_gain=1"], "stride  delay  action_gain  success"),
        ([f"{n}=0,0.5" for n in NAMES] + ["delay=0"], "a observation_noise, b dropped_obs"),
    ],
)
def test_it_is_shown_in_80_columns(checkpoints, monkeypatch, capsys, vary, shown):
    monkeypatch.chdir(checkpoints[0].parent)
    assert evaluate(Path("good.pt"), env="dot", vary=vary, episodes=10) == 0
    out = capsys.readouterr().out
    assert shown in out and max(map(len, out.splitlines())) <= 80
    said = "good.pt: worst with" if "stride=1,0.1" in vary else "good.pt: no condition is worse"
    assert out.startswith(said)


def test_three_checkpoints_are_compared_in_pairs(checkpoints, tmp_path, capsys):
    found = swept(capsys, *checkpoints, episodes=12)
    assert found["kind"] == "comparison" and found["policies"] == [*map(str, checkpoints)]
    assert [r["success_rate"] for r in found["results"]] == [1.0, 0.0, 1.0]
    names = [(pair["first"], pair["second"]) for pair in found["pairs"]]
    assert names == [*combinations(map(str, checkpoints), 2)]
    assert [pair["difference"] for pair in found["pairs"]] == [-1.0, 0.0, 1.0]
    p_value = 2 / 2**12
    corrected = [pair["p_value_corrected"] for pair in found["pairs"]]
    assert corrected == pytest.approx([3 * p_value, 1.0, 3 * p_value])
    assert evaluate(*checkpoints, env="dot", episodes=12) == 0
    assert "2 - 1  -1.00 [-1.00, -0.66]  12          0.001" in capsys.readouterr().out
    for words in ({"gate": "p_value<1"}, {"until": "decided"}, {"n_for": "difference>=0.1"}):
        with pytest.raises(ConfigError, match="no meaning with more than two checkpoints"):
            evaluate(*checkpoints, env="dot", **words)


def test_it_says_how_many_episodes_show_a_difference(checkpoints, capsys):
    found = swept(capsys, *checkpoints[:2], episodes=10, n_for="difference>=0.1")
    assert found["n_for"]["discordant"] == 1.0 and found["n_for"]["episodes"] > 700
    found = swept(capsys, checkpoints[0], episodes=10, n_for="difference>=0.1")
    assert found["n_for"]["discordant"] == pytest.approx(0.1)
    assert found["n_for"]["episodes"] == paired_episodes(0.1, 0.1) < 100
    assert evaluate(checkpoints[0], env="dot", episodes=10, n_for="difference>=0.1") == 0
    assert "n_for.episodes" in capsys.readouterr().out
    half = episodes_for(0.1, {"success_rate": 0.5})
    assert half["discordant"] == pytest.approx(0.5)  # whichever way the other differs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("difference", "discordant"),
    [(0.05, 0.06), (0.05, 0.3), (0.1, 0.15), (0.1, 0.5), (0.2, 0.25), (0.3, 0.6), (0.5, 0.9)],
)
def test_so_many_episodes_do_show_it(difference, discordant):
    """By simulation: McNemar's exact test sees it in about 80% of 20,000 comparisons."""
    n, rng = paired_episodes(difference, discordant), np.random.default_rng(0)
    only_first, only_second, _ = rng.multinomial(
        n, [(discordant - difference) / 2, (discordant + difference) / 2, 1 - discordant], 20_000
    ).T
    pairs, counts = np.unique([only_first, only_second], axis=1, return_counts=True)
    seen = [mcnemar_exact(*map(int, pair)) <= 0.05 for pair in pairs.T]
    assert 0.785 < np.average(seen, weights=counts) < 0.93


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"vary": ["colour=1,2"]}, "vary 'colour': expected what can be varied of 'dot': stride, "),
        ({"vary": ["delay=a"]}, "vary 'delay=a': expected a name and numbers"),
        ({"vary": ["delay"]}, "vary 'delay': expected a name and numbers"),
        ({"vary": ["delay=0,1,"]}, "expected a name and numbers"),
        ({"vary": ["delay=nan"]}, "expected a name and numbers"),
        ({"vary": [f"delay={','.join(map(str, range(20_000)))}"]}, "at most 10,000 conditions"),
        ({"vary": ["delay=0.5"]}, "delay: expected an integer of 0 to"),
        ({"vary": ["delay=0,1,1"]}, "expected a value once, got it twice"),
        ({"vary": ["delay=0", "delay=1"]}, "expected the quantity 'delay' once"),
        ({"vary": ["stride=1,2"], "env_kwargs": {"stride": 2}}, "'stride' is varied and set"),
        ({"vary": ["delay=0"], "gate": "success_rate>=1"}, "--gate has no meaning with --vary"),
        ({"vary": ["delay=0"], "until": "success_rate>=.5"}, "--until has no meaning with --vary"),
        ({"vary": ["delay=0"], "video": "v"}, "--video has no meaning with --vary"),
        ({"vary": ["delay=0"], "n_for": "difference>=0.1"}, "--n-for has no meaning with --vary"),
        ({"no_control": True}, "no-control: expected --vary with it"),
        ({"n_for": "success_rate>=0.1"}, "expected a difference, such as 'difference>=0.05'"),
        ({"n_for": "difference>=2"}, "expected a number between 0 and 1, got 2"),
    ],
)
def test_what_has_no_meaning_is_refused_before_anything_is_read(tmp_path, given, said):
    with pytest.raises(ConfigError, match=said):
        evaluate(tmp_path / "missing.pt", env="dot", **given)
