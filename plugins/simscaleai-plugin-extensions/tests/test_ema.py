"""The moving average is what the formula says, resumes exactly and never touches training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from simscaleai_devkit.support.listeners import Recorder
from simscaleai_devkit.support.policies import TiedPolicy
from simscaleai_devkit.support.runs import FinishedRun, train_small
from simscaleai_devkit.support.trees import tree_differences
from simscaleai_plugin_extensions.shadow import Shadow
from torch import nn

from simscaleai_core import ModelRegistry, load_policy
from simscaleai_core.errors import CheckpointError, ConfigError, EvaluationError
from simscaleai_core.host.registry import load_checkpoint
from simscaleai_core.plugin import hookimpl

OPTIONS = {"ema": {"decay": 0.3}}


def train(folder: Path, *extensions: str, **given: Any) -> FinishedRun:
    """Train a policy with buffers and a tied weight, with these extensions."""
    return train_small(folder, extensions=extensions, **{"policy": TiedPolicy, **given})


class WeightsKeeper:
    """An eval function that keeps the weights it is given."""

    def __init__(self, error: Exception | None = None) -> None:
        self.seen: list[dict[str, torch.Tensor]] = []
        self.error = error

    def __call__(self, policy: nn.Module) -> Mapping[str, float]:
        self.seen.append({n: t.clone() for n, t in policy.state_dict().items()})
        if self.error is not None:
            raise self.error
        return {"loss": 1.0}


def by_hand(weights: list[dict[str, torch.Tensor]], decay: float) -> list[dict[str, torch.Tensor]]:
    average = {n: t.clone() for n, t in TiedPolicy().state_dict().items()}
    history = []
    for n, now in enumerate(weights):
        weight = 1 - min(decay, (1 + n) / (10 + n))
        for name, value in now.items():
            if value.is_floating_point():
                average[name] = torch.lerp(average[name], value, weight)
            else:
                average[name] = value
        history.append(dict(average))
    return history


def test_it_equals_a_computation_by_hand(tmp_path: Path) -> None:
    recorder = Recorder(weights=True)
    train(tmp_path, "ema", listeners=(recorder,), options=OPTIONS, save_every=1)
    history = by_hand(recorder.weights, 0.3)
    for step in range(1, 10):
        tree = load_checkpoint(tmp_path / f"step_{step}.pt")
        assert not tree_differences(tree["states"]["ema"]["shadow"], history[step - 1])
        assert not tree_differences(tree["model_state_dict"], recorder.weights[step - 1])
    # the formula itself, in double precision
    name = "head.1.weight"
    exact = TiedPolicy().state_dict()[name].double()
    for n, now in enumerate(recorder.weights):
        d = min(0.3, (1 + n) / (10 + n))
        exact = d * exact + (1 - d) * now[name].double()
    assert torch.allclose(history[-1][name].double(), exact, atol=1e-6)
    TiedPolicy().load_state_dict(tree["states"]["ema"]["shadow"])


@pytest.mark.parametrize("eval_with", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_evaluation_sees_the_average_and_training_does_not(tmp_path: Path, eval_with: bool) -> None:
    plain, recorder = Recorder(weights=True), Recorder(weights=True)
    keeper = WeightsKeeper()
    train(tmp_path / "plain", listeners=(plain,), eval_every=4, evaluate=WeightsKeeper())
    options = {"ema": {"decay": 0.3, "eval_with": eval_with}}
    given = {"listeners": (recorder,), "eval_every": 4, "evaluate": keeper, "options": options}
    train(tmp_path / "ema", "ema", **given)
    assert not tree_differences(recorder.weights, plain.weights)
    shown = by_hand(recorder.weights, 0.3) if eval_with else recorder.weights
    assert not tree_differences(keeper.seen, [shown[3], shown[7], shown[9]])
    trained = load_checkpoint(tmp_path / "ema/final.pt")["model_state_dict"]
    assert not tree_differences(
        trained, load_checkpoint(tmp_path / "plain/final.pt")["model_state_dict"]
    )


def test_the_weights_come_back_after_an_exception_in_an_evaluation(tmp_path: Path) -> None:
    policy, recorder = TiedPolicy(), Recorder(weights=True)
    evaluate = WeightsKeeper(RuntimeError("broken"))
    given: dict[str, Any] = {"listeners": (recorder,), "options": OPTIONS, "eval_every": 4}
    with pytest.raises(EvaluationError, match="broken"):
        train(tmp_path, "ema", policy=policy, evaluate=evaluate, **given)
    assert not tree_differences(dict(policy.state_dict()), recorder.weights[-1])
    assert policy.training


@pytest.mark.slow
def test_resume_is_exact_at_every_step(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"options": OPTIONS, "eval_every": 4, "held_out": True}
    whole = train(tmp_path / "whole", "ema", save_every=1, **fields)
    for k in (1, 2, 4, 5, 8, 9):
        found = train(tmp_path / str(k), "ema", resume_from=str(whole.step(k)), **fields)
        assert not tree_differences(found.tree(), whole.tree())


def test_it_starts_from_the_restored_weights_if_the_checkpoint_has_no_average(
    tmp_path: Path,
) -> None:
    class Start:
        shadow: Any = None

        @hookimpl
        def simscale_on_run_start(self, run: Any) -> None:
            shadow = run.states["ema"].state_dict()["shadow"]
            self.shadow = {n: t.clone() for n, t in shadow.items()}

    train(tmp_path / "a", save_every=5)
    start = Start()
    source = tmp_path / "a/step_5.pt"
    train(tmp_path / "b", "ema", resume_from=str(source), listeners=(start,))
    assert not tree_differences(start.shadow, load_checkpoint(source)["model_state_dict"])


def test_state_goes_round_twice_and_misfits_are_named() -> None:
    one, two = Shadow(TiedPolicy(), 0.5), Shadow(TiedPolicy(), 0.5)
    one.update()
    for _ in range(2):
        two.load(one.tensors, one.updates)
        assert not tree_differences(two.tensors, one.tensors)
    with pytest.raises(CheckpointError, match=r"encoder.0.weight.*missing"):
        two.load({n: t for n, t in one.tensors.items() if n != "encoder.0.weight"}, 1)


def test_shared_and_replaced_buffers_survive_a_swap() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(1, 1), nn.Linear(1, 1)
            shared = torch.zeros(1)
            self.one.register_buffer("shared", shared)
            self.two.register_buffer("shared", shared)
            self.register_buffer("replaced", torch.zeros(1))

    policy = Odd()
    shadow = Shadow(policy, 0.5)
    policy.one.shared.fill_(2.0)
    policy.replaced = torch.full((1,), 4.0)
    shadow.update()
    before = {n: t.clone() for n, t in policy.state_dict().items()}
    shadow.swap()
    assert (float(policy.two.shared), float(policy.replaced)) == pytest.approx((1.8, 3.6))
    shadow.swap()
    assert not tree_differences(dict(policy.state_dict()), before)
    assert float(shadow.tensors["one.shared"]) == pytest.approx(1.8)


@pytest.mark.parametrize("eval_with", [True, False])
def test_the_policy_of_a_checkpoint_is_the_one_that_was_evaluated(
    tmp_path: Path, eval_with: bool
) -> None:
    options = {"ema": {"decay": 0.3, "eval_with": eval_with}}
    policy = ModelRegistry.create("bc", state_dim=6, action_dim=2)
    train(tmp_path, "ema", policy=policy, options=options)
    path = tmp_path / "final.pt"
    tree = load_checkpoint(path)
    average, trained = tree["states"]["ema"]["shadow"], tree["model_state_dict"]
    assert tree_differences(average, trained)
    assert not tree_differences(
        dict(load_policy(path).state_dict()), average if eval_with else trained
    )
    assert not tree_differences(dict(load_policy(path, weights="trained").state_dict()), trained)
    with pytest.raises(ConfigError, match="expected one of evaluated, trained, got 'mean'"):
        load_policy(path, weights="mean")
