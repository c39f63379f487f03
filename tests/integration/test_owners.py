"""Plugins by others that own a part of a run: each a wheel, used alone and with all the others.

An optimiser, a schedule, two train steps (one of them with an optimiser of its own), a sampler, a
transform and an adapter, in a fresh venv, on one rank and on two.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # asking, under --import-mode=importlib

from asking import Ask, asking, done, forking, refused, rows, tree

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

KILLER = Path(__file__).with_name("killer.py")
SHARED = (
    *("--max-steps", 40, "--save-every", 10, "--eval-every", 15, "--log-every", 7, "--seed", 3),
    *("--warmup-steps", 5, "--lr", 1e-3, "--batch-size", 16),
    *("--dataset-name", "dummy", "--dummy.num-samples", 200),
)
WORKERS = ("--num-workers", 2)
BC = ("--model", "bc", "--bc.hidden-dim", 16, "--bc.dropout", 0.1)
LORA = ("--adapter", "lora", "--lora.rank", 2)
OTHERS = ("muon", "rsqrt", "curriculum", "jitter")
CASES: dict[str, tuple[object, ...]] = {
    "muon": (*BC, "--optimizer", "muon", "--muon.momentum", 0.8),
    "rsqrt": (*BC, "--schedule", "rsqrt", "--rsqrt.cooldown-fraction", 0.5),
    "sam": (*BC, "--train-step", "sam", "--sam.rho", 0.1),
    "actor-critic": ("--plugin", "actor-critic", "--learn-both.critic-lr", 0.01),
    "curriculum": (*BC, "--sampler", "curriculum", "--curriculum.epochs", 3),
    "jitter": (*BC, "--transform", "jitter", "--jitter.std", 0.1),
    "lora": (*BC, *LORA, "--lora.dropout", 0.1),
    "together": (*BC, *(f"--plugin={name}" for name in (*OTHERS, "sam")), *LORA),
    "together-with-a-critic": (
        *(f"--plugin={name}" for name in (*OTHERS, "actor-critic")),
        *(*LORA, "--lora.targets", "actor.*", "--lora.train", "critic.*"),
    ),
}
KINDS = {
    "muon": "optimizer",
    "rsqrt": "schedule",
    "sam": "train_step",
    "actor-critic": "train_step",
    "curriculum": "sampler",
    "jitter": "transforms",
    "lora": "adapters",
}


@pytest.fixture(scope="module")
def owners(installed_owners: Any, environment: dict[str, str]) -> Iterator[Ask]:
    """Run the command in the venv with the plugins: its exit statuses, and what it printed."""
    with forking(installed_owners.python, environment) as process:
        yield asking(process)


@pytest.fixture(scope="module")
def without(installed: Any, environment: dict[str, str]) -> Iterator[Ask]:
    """Run the command in a venv without them, and without peft."""
    with forking(installed.python, environment) as process:
        yield asking(process)


@pytest.fixture(scope="module")
def whole(owners: Ask, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of an uninterrupted run, made once."""
    folders: dict[tuple[str, int], Path] = {}

    def find(case: str, ranks: int = 1) -> Path:
        if (case, ranks) not in folders:
            folders[case, ranks] = folder = tmp_path_factory.mktemp("whole")
            flags = CASES.get(case, BC)
            done(owners("train", *SHARED, *WORKERS, *flags, cwd=folder, ranks=ranks))
        return folders[case, ranks]

    return find


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_killed_and_resumed_is_bit_exact(
    case: str, ranks: int, owners: Ask, whole: Callable[..., Path], tmp_path: Path
) -> None:
    expected, flags = whole(case, ranks), (*SHARED, *WORKERS, *CASES[case])
    statuses, output = owners("train", *flags, "--plugin", KILLER, cwd=tmp_path, ranks=ranks)
    assert statuses == [-9] * ranks, output
    assert not (tmp_path / "checkpoints" / "final.pt").exists()
    output = done(owners("train", *flags, "--resume", "auto", cwd=tmp_path, ranks=ranks))
    assert "resumed: from checkpoints/" in output  # step_20, or what was on the disk by then
    one, other = (folder / "checkpoints" / "final.pt" for folder in (expected, tmp_path))
    assert one.read_bytes() == other.read_bytes()
    weights = (tree(folder, "best.pt")["model_state_dict"] for folder in (expected, tmp_path))
    one_by_one = zip(*(found.values() for found in weights), strict=True)
    assert all(torch.equal(*both) for both in one_by_one)  # the killed run's own file, perhaps
    assert rows(expected) == rows(tmp_path)


@pytest.mark.parametrize("name", KINDS)
def test_each_is_used_and_recorded(name: str, whole: Callable[..., Path]) -> None:
    plain, found = tree(whole("plain")), tree(whole(name))
    (used,) = {*found["facts"]["plugins"]} - {"bc", "builtin"}
    distribution = "extensions 0.2.0" if name == "lora" else f"{name} 1.0.0"
    assert found["facts"]["plugins"][used] == f"simscaleai-plugin-{distribution}"
    said = found["settings"][KINDS[name]]
    component = f"{used}/{'learn-both' if name == 'actor-critic' else name}"
    assert said == ([component] if KINDS[name].endswith("s") else component)
    if name != "actor-critic":
        shared = plain["model_state_dict"].keys() & found["model_state_dict"].keys()
        pairs = [(plain["model_state_dict"][k], found["model_state_dict"][k]) for k in shared]
        assert (name == "lora") == all(torch.equal(one, other) for one, other in pairs)


def test_what_each_keeps_is_in_the_checkpoint(whole: Callable[..., Path]) -> None:
    both = tree(whole("together-with-a-critic"))
    kept = both["optimizer_state_dict"]["state"].values()
    assert {frozenset(state) for state in kept} == {frozenset({"momentum_buffer"})}  # LoRA's: 2-D
    critic = both["states"]["train_step"]["critic"]["state"]
    assert len(critic) == 4 and all(s["momentum_buffer"].any() for s in critic.values())
    trained = {name.partition(".")[0]: name for name in both["param_names"]}
    assert trained.keys() == {"actor", "critic"}
    assert "lora_" in trained["actor"] and "lora_" not in trained["critic"]
    assert both["policy"]["adapters"][0]["component"] == "extensions/lora"
    every = tree(whole("muon"))["optimizer_state_dict"]["state"].values()
    assert {frozenset(state) for state in every} == {
        frozenset({"momentum_buffer"}),
        frozenset({"step", "exp_avg", "exp_avg_sq"}),
    }


def test_ranks_train_on_one_another_s_gradients(whole: Callable[..., Path]) -> None:
    """The negative control: two ranks see other batches than one, so their weights are others."""
    one, two = (tree(whole("sam", ranks)) for ranks in (1, 2))
    assert two["facts"]["world_size"] == 2
    assert not torch.equal(*(list(t["model_state_dict"].values())[-1] for t in (one, two)))


def test_number_of_workers_changes_nothing(
    owners: Ask, whole: Callable[..., Path], tmp_path: Path
) -> None:
    flags = (*SHARED, *CASES["together"], "--num-workers", 0)
    output = done(owners("train", *flags, cwd=tmp_path))
    assert "workers: 0\n" in output
    two, none = tree(whole("together")), tree(tmp_path)
    for name, value in two["model_state_dict"].items():
        assert torch.equal(value, none["model_state_dict"][name]), name


def test_their_options_are_in_help_and_schema(owners: Ask, tmp_path: Path) -> None:
    named = [f"--plugin={name}" for name in (*OTHERS, "sam", "actor-critic")]
    shown = done(owners("train", *named, "--help", cwd=tmp_path))
    for flag in ("muon.momentum", "rsqrt.cooldown-fraction", "sam.rho", "learn-both.critic-lr",
                 "curriculum.epochs", "jitter.std"):  # fmt: skip
        assert f"--{flag}" in shown
    schema = done(owners("plugins", "info", "muon", "--schema", cwd=tmp_path))
    assert "momentum" in schema
    assert done(owners("plugins", "doctor", cwd=tmp_path))


def test_only_one_train_step_is_chosen(owners: Ask, tmp_path: Path) -> None:
    answer = owners("train", "--plugin", "sam", "--plugin", "actor-critic", cwd=tmp_path)
    assert "select different components for train_step" in refused(answer)


@pytest.mark.parametrize("name", KINDS)
def test_uninstalled_is_one_line(
    name: str, whole: Callable[..., Path], without: Ask, tmp_path: Path
) -> None:
    """Named in a configuration, and needed by a checkpoint; nothing is trained or written."""
    wanted = {"actor-critic": "plugin 'actor-critic'", "lora": "needs peft"}.get(name, f"'{name}'")
    assert wanted in refused(without("train", *SHARED, *CASES[name], cwd=tmp_path))
    checkpoint = whole(name) / "checkpoints" / "step_20.pt"
    resumed = refused(without("train", "--resume", checkpoint, cwd=tmp_path))
    assert wanted in resumed
    if name != "lora":
        assert f"simscaleai-plugin-{name} 1.0.0" in resumed
    assert not list(tmp_path.iterdir())


def test_a_train_step_of_another_kind_goes_on_when_told_to(
    owners: Ask, whole: Callable[..., Path], tmp_path: Path
) -> None:
    """What one train step keeps is no business of another."""
    checkpoint = whole("actor-critic") / "checkpoints" / "step_20.pt"
    command = ("train", "--resume", checkpoint, "--train-step", "sam", "--checkpoint-dir", "other")
    assert "train_step was actor-critic/learn-both, is sam/sam" in refused(
        owners(*command, cwd=tmp_path)
    )
    done(owners(*command, "--allow-drift", cwd=tmp_path))


def test_low_rank_weights_from_training_to_deployment(
    owners: Ask, without: Ask, reach_h5: Path, tmp_path: Path
) -> None:
    """Trained plainly, adapted, evaluated, merged, evaluated without peft, and begun from again."""
    base = ("train", "--dataset", reach_h5, "--max-steps", 20, "--lr", 1e-2, "--warmup-steps", 2)
    evaluate = ("eval", "--env", "reach", "--episodes", 4, "--json")
    done(owners(*base, *BC, "--checkpoint-dir", "plain", cwd=tmp_path))
    adapted = (*BC, *LORA, "--init-from", "plain/final.pt", "--checkpoint-dir", "adapted")
    done(owners(*base, *adapted, cwd=tmp_path))
    found = json.loads(_json(done(owners(*evaluate, "adapted/final.pt", cwd=tmp_path))))
    line = refused(without(*evaluate, "adapted/final.pt", cwd=tmp_path))
    assert "needs peft" in line
    merge = ("checkpoint", "merge", "adapted/final.pt", "merged.pt")
    assert "needs peft" in refused(without(*merge, cwd=tmp_path))
    done(owners(*merge, cwd=tmp_path))
    merged = json.loads(_json(done(without(*evaluate, "merged.pt", cwd=tmp_path))))
    assert merged["n_episodes"] == found["n_episodes"] == 4
    assert merged["mean_return"] == pytest.approx(found["mean_return"], rel=1e-3)
    again = (*base, *BC, "--init-from", "merged.pt", "--checkpoint-dir", "again")
    assert "of merged.pt" in done(without(*again, cwd=tmp_path))
    adapted_one = refused(owners(*base, *BC, "--init-from", "adapted/final.pt", cwd=tmp_path))
    assert "simscale checkpoint merge" in adapted_one


def _json(output: str) -> str:
    return output[output.index("{") : output.rindex("}") + 1]


def test_an_adapter_of_a_plugin_that_is_missing(
    whole: Callable[..., Path], installed_gym: Any, tmp_path: Path
) -> None:
    checkpoint = whole("lora") / "checkpoints" / "final.pt"
    for command in (
        ("train", "--model", "bc", "--adapter", "lora"),
        ("train", "--resume", checkpoint),
        ("eval", checkpoint, "--env", "CartPole-v1", "--episodes", 1),
        ("checkpoint", "merge", checkpoint, "merged.pt"),
    ):
        shown = installed_gym.simscale(*command, cwd=tmp_path, status=2).stderr
        assert "Traceback" not in shown
        assert "adapter" in shown and "simscaleai-plugin-extensions" in shown
