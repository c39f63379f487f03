"""The parts that train steps are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from doors_kit import Component
from simscaleai_devkit.support.hosts import host_with
from training_kit import TinyPolicy, differences, dummy_loader, read, train

from simscaleai_core.contracts import Batch, StepResult
from simscaleai_core.errors import CheckpointError, PolicyError
from simscaleai_core.plugin import TrainStepSpec, hookimpl
from simscaleai_core.run.state import Run
from simscaleai_core.run.train_step import apply_gradients, backward, micro_batches

HOST = host_with(
    *(
        TrainStepSpec(name=name, target=f"{module}:{target}")
        for name, module, target in (
            ("two", "doors_kit", "TwoOptimizers"),
            ("plain", "doors_kit", "Plain"),
            ("tuple", "doors_kit", "Tuple"),
            ("looks", __name__, "Looks"),
        )
    )
)
SEEN: dict[str, Any] = {}


class Looks(Component):
    """Calls the parts in every way, and keeps what they give."""

    def update(self, run: Run, batch: Batch) -> StepResult:
        micros = list(micro_batches(run, batch))
        metrics, out = backward(run, micros)
        first = [p.grad.clone() for p in run.parameters if p.grad is not None]
        backward(run, micros, lambda out, micro: 2 * out["loss"])
        tripled = [p.grad.clone() for p in run.parameters if p.grad is not None]
        *others, last = run.parameters
        own = torch.optim.SGD([last], lr=0.0)
        applied = apply_gradients(run, metrics, own)
        left = [p.grad is not None for p in (*others, last)]
        apply_gradients(run, metrics)
        SEEN.update(micros=micros, first=first, tripled=tripled, left=left)
        SEEN["norm"] = (metrics["grad_norm"], last)
        return StepResult(metrics, applied, out)


def one_step(tmp_path: Path, step: str, **fields: Any) -> TinyPolicy:
    policy = TinyPolicy()
    loader = dummy_loader(8, 6)
    train(tmp_path, policy=policy, loader=loader, host=HOST, train_step=step, max_steps=1, **fields)
    return policy


def test_passes_share_micro_batches_and_add_up(tmp_path: Path) -> None:
    calls = []

    class Scales:
        @hookimpl
        def simscale_transform_batch(self, run: Run, batch: Batch) -> Batch:
            calls.append(run.step)
            return {**batch, "actions": batch["actions"] * 2}

    one_step(tmp_path, "looks", accumulate=4, listeners=(Scales(),))
    assert len(calls) == 4  # once for each micro-batch, however many passes
    assert [len(micro["actions"]) for micro, _, _ in SEEN["micros"]] == [2, 1, 1, 2]
    assert sum(weight for _, weight, _ in SEEN["micros"]) == pytest.approx(1)
    assert [is_last for _, _, is_last in SEEN["micros"]] == [False, False, False, True]
    for one, three in zip(SEEN["first"], SEEN["tripled"], strict=True):
        torch.testing.assert_close(three, 3 * one)


def test_an_update_of_some_leaves_the_gradients_of_others(tmp_path: Path) -> None:
    one_step(tmp_path, "looks")
    assert SEEN["left"] == [True, True, True, False]


@pytest.mark.parametrize("veto", [False, True])
def test_several_optimisers_step_together_or_not_at_all(tmp_path: Path, veto: bool) -> None:
    heard = []

    class Vetoes:
        @hookimpl
        def simscale_on_grads_ready(self, run: Run) -> bool:
            heard.append([p.grad is not None for p in run.parameters])
            return veto

    before, policy = TinyPolicy().net[3].bias, one_step(tmp_path, "two", listeners=(Vetoes(),))
    assert heard == [[True] * 4]  # listeners are asked once for all of it
    assert all(p.grad is None for p in policy.parameters())
    state = read(tmp_path / "final.pt")["states"]["train_step"]["own"]["state"]
    assert torch.equal(policy.net[3].bias, before) is veto
    assert bool(state) is not veto


def test_the_state_of_a_train_step_is_continued(tmp_path: Path) -> None:
    how: dict[str, Any] = {"host": HOST, "train_step": "two", "save_every": 7}
    train(tmp_path / "whole", **how)
    train(tmp_path / "again", **how, resume_from=str(tmp_path / "whole" / "step_7.pt"))
    whole, again = (read(tmp_path / name / "final.pt") for name in ("whole", "again"))
    assert differences(whole["model_state_dict"], again["model_state_dict"]) == []
    assert differences(whole["states"]["train_step"], again["states"]["train_step"]) == []
    assert whole["states"]["train_step"]["own"]["state"][0]["step"] == 12


def test_another_train_step_does_not_get_the_state_of_the_first(tmp_path: Path) -> None:
    train(tmp_path, host=HOST, train_step="two", save_every=7)
    other: dict[str, Any] = {"host": HOST, "resume_from": str(tmp_path / "step_7.pt")}
    with pytest.raises(CheckpointError, match="train_step was kit/two, is kit/plain"):
        train(tmp_path / "b", train_step="plain", **other)
    for name in ("plain", "supervised"):
        train(tmp_path / name, train_step=name, allow_drift=True, **other)
        left = read(tmp_path / name / "final.pt")["states"].get("train_step")
        assert left == ({"mine": 1} if name == "plain" else None)


def test_a_result_of_another_kind_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"Tuple\.update .* expected a StepResult, got tuple"):
        one_step(tmp_path, "tuple")
