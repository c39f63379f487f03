"""The moving average is what the formula says, resumes exactly and never touches training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from extensions_kit import Small, Watcher, differences, read, train, without_config
from simscaleai_plugin_extensions.shadow import Shadow
from torch import nn

from simscaleai_core import ModelRegistry, load_policy
from simscaleai_core.errors import CheckpointError, ConfigError
from simscaleai_core.plugin import hookimpl

OPTIONS = {"ema": {"decay": 0.3}}


class Looker:
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
    average = {n: t.clone() for n, t in Small().state_dict().items()}
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
    watcher = Watcher()
    train(tmp_path, "ema", listeners=(watcher,), options=OPTIONS, save_every=1)
    history = by_hand(watcher.weights, 0.3)
    for step in range(1, 10):
        tree = read(tmp_path / f"step_{step}.pt")
        assert not differences(tree["states"]["ema"]["shadow"], history[step - 1])
        assert not differences(tree["model_state_dict"], watcher.weights[step - 1])
    # the formula itself, in double precision
    name = "head.1.weight"
    exact = Small().state_dict()[name].double()
    for n, now in enumerate(watcher.weights):
        d = min(0.3, (1 + n) / (10 + n))
        exact = d * exact + (1 - d) * now[name].double()
    assert torch.allclose(history[-1][name].double(), exact, atol=1e-6)
    Small().load_state_dict(tree["states"]["ema"]["shadow"])


@pytest.mark.parametrize("eval_with", [True, False])
def test_evaluation_sees_the_average_and_training_does_not(tmp_path: Path, eval_with: bool) -> None:
    plain, watcher, looker = Watcher(), Watcher(), Looker()
    train(tmp_path / "plain", listeners=(plain,), eval_every=4, evaluate=Looker())
    options = {"ema": {"decay": 0.3, "eval_with": eval_with}}
    train(tmp_path / "ema", "ema", listeners=(watcher,), eval_every=4, evaluate=looker,
          options=options)  # fmt: skip
    assert not differences(watcher.weights, plain.weights)
    shown = by_hand(watcher.weights, 0.3) if eval_with else watcher.weights
    assert not differences(looker.seen, [shown[3], shown[7], shown[9]])
    trained = read(tmp_path / "ema/final.pt")["model_state_dict"]
    assert not differences(trained, read(tmp_path / "plain/final.pt")["model_state_dict"])


def test_the_weights_come_back_after_an_exception_in_an_evaluation(tmp_path: Path) -> None:
    policy, watcher = Small(), Watcher()
    with pytest.raises(RuntimeError, match="broken"):
        train(tmp_path, "ema", policy=policy, listeners=(watcher,), options=OPTIONS, eval_every=4,
              evaluate=Looker(RuntimeError("broken")))  # fmt: skip
    assert not differences(policy.state_dict(), watcher.weights[-1])
    assert policy.training


def test_resume_is_exact_at_every_step(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"options": OPTIONS, "eval_every": 4, "held_out": True}
    train(tmp_path / "whole", "ema", save_every=1, **fields)
    wanted = without_config(read(tmp_path / "whole/final.pt"))
    for k in (1, 2, 4, 5, 8, 9):
        source = str(tmp_path / f"whole/step_{k}.pt")
        train(tmp_path / str(k), "ema", resume_from=source, **fields)
        found = without_config(read(tmp_path / str(k) / "final.pt"))
        assert not differences(found, wanted)


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
    assert not differences(start.shadow, read(source)["model_state_dict"])


def test_state_goes_round_twice_and_misfits_are_named() -> None:
    one, two = Shadow(Small(), 0.5), Shadow(Small(), 0.5)
    one.update()
    for _ in range(2):
        two.load(one.tensors, one.updates)
        assert not differences(two.tensors, one.tensors)
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
    assert not differences(policy.state_dict(), before)
    assert float(shadow.tensors["one.shared"]) == pytest.approx(1.8)


@pytest.mark.parametrize("eval_with", [True, False])
def test_the_policy_of_a_checkpoint_is_the_one_that_was_evaluated(
    tmp_path: Path, eval_with: bool
) -> None:
    options = {"ema": {"decay": 0.3, "eval_with": eval_with}}
    policy = ModelRegistry.create("bc", state_dim=6, action_dim=2)
    train(tmp_path, "ema", policy=policy, options=options)
    path = tmp_path / "final.pt"
    tree = read(path)
    average, trained = tree["states"]["ema"]["shadow"], tree["model_state_dict"]
    assert differences(average, trained)
    assert not differences(load_policy(path).state_dict(), average if eval_with else trained)
    assert not differences(load_policy(path, weights="trained").state_dict(), trained)
    with pytest.raises(ConfigError, match="expected one of evaluated, trained, got 'mean'"):
        load_policy(path, weights="mean")
