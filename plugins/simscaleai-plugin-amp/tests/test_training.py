"""Mixed precision in real runs: formats, skipped updates, exact resume."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from simscaleai_devkit.support.runs import FinishedRun, train_small
from simscaleai_devkit.support.trees import tree_differences
from torch import nn

from simscaleai_core.errors import CheckpointError
from simscaleai_core.host.registry import load_checkpoint
from simscaleai_core.plugin import hookimpl

pytestmark = pytest.mark.slow

DTYPES = ["bfloat16", "float16"]


class DtypePolicy(nn.Module):
    """A small network that records in which format its layers computed."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 2))
        self.dtypes: set[torch.dtype] = set()

    def forward(self, batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        out = self.net(batch["observations"]["state"])
        if self.training:
            self.dtypes.add(out.dtype)
        return {"loss": (out - batch["actions"]).square().mean()}


class Recorder:
    """Makes the loss infinite at one step, or vetoes it, and records each step."""

    def __init__(self, *, bad: int | None = None, veto: int | None = None) -> None:
        self.bad, self.veto = bad, veto
        self.rates: list[float] = []
        self.weights: list[torch.Tensor] = []
        self.scales: list[float] = []
        self.updates: list[int] = []

    @hookimpl
    def simscale_transform_batch(self, run: Any, batch: Any) -> Any:
        self.rates.append(run.optimizer.param_groups[0]["lr"])
        if run.step == self.bad:
            return {**batch, "actions": batch["actions"] * float("inf")}
        return batch

    @hookimpl
    def simscale_on_grads_ready(self, run: Any) -> bool:
        return run.step == self.veto

    @hookimpl
    def simscale_on_step_end(self, run: Any) -> None:
        self.weights.append(
            torch.cat([p.detach().flatten().clone() for p in run.policy.parameters()])
        )
        self.scales.append(run.precision.state_dict().get("scale", 1.0))
        self.updates.append(run.counters.updates)


def train(folder: Path, *, recorder: Recorder | None = None, **given: Any) -> FinishedRun:
    """Train a small network in mixed precision on the CPU."""
    mixed: dict[str, Any] = {"precision": "amp", "options": {"amp": {"on_cpu": True}}}
    listeners = () if recorder is None else (recorder,)
    return train_small(folder, **{"policy": DtypePolicy, "listeners": listeners, **mixed, **given})


def use_foreach(groups: Any, config: Any, options: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=config.lr, foreach=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_forward_pass_computes_in_the_format_and_weights_stay_float32(
    tmp_path: Path, dtype: str
) -> None:
    policy = DtypePolicy()
    done = train(tmp_path, policy=policy, amp_dtype=dtype)
    assert policy.dtypes == {getattr(torch, dtype)}
    assert math.isfinite(done.metrics["final_loss"])
    assert {p.dtype for p in policy.parameters()} == {torch.float32}
    assert bool(done.tree()["scaler_state_dict"]) is (dtype == "float16")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_gradients_reach_the_optimiser_at_their_true_scale(
    tmp_path: Path, dtype: str, accumulate: int
) -> None:
    ours, plain = Recorder(), Recorder()
    train(tmp_path / "a", recorder=ours, amp_dtype=dtype, accumulate=accumulate)
    train(tmp_path / "b", recorder=plain, precision="fp32", options={}, accumulate=accumulate)
    assert torch.allclose(ours.weights[-1], plain.weights[-1], atol=0.03)
    assert not torch.equal(ours.weights[-1], plain.weights[-1])


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_infinite_loss_skips_the_update_and_shifts_the_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, fused: bool
) -> None:
    if not fused:
        monkeypatch.setattr("simscaleai_core.builtin.optimizers.adamw", use_foreach)
    good, bad = Recorder(), Recorder(bad=4)
    train(tmp_path / "good", recorder=good, amp_dtype=dtype)
    train(tmp_path / "bad", recorder=bad, amp_dtype=dtype)
    assert torch.equal(bad.weights[4], bad.weights[3])
    assert not torch.equal(bad.weights[5], bad.weights[4])
    assert bad.rates == [*good.rates[:5], *good.rates[4:-1]]
    assert bad.updates == [1, 2, 3, 4, 4, 5, 6, 7, 8, 9]
    assert load_checkpoint(tmp_path / "bad/final.pt")["counters"]["skipped"] == 1
    assert bad.scales[4] == good.scales[4] * (0.5 if dtype == "float16" else 1.0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_vetoed_update_is_skipped_and_the_next_one_is_not(tmp_path: Path, dtype: str) -> None:
    recorder = Recorder(veto=4)
    train(tmp_path, recorder=recorder, amp_dtype=dtype)
    assert torch.equal(recorder.weights[4], recorder.weights[3])
    assert not torch.equal(recorder.weights[5], recorder.weights[4])
    assert recorder.updates[-1] == 9
    assert len(set(recorder.scales)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_resume_is_exact_at_every_step(tmp_path: Path, dtype: str) -> None:
    options = {"amp": {"on_cpu": True, "growth_interval": 3}}
    fields: dict[str, Any] = {"amp_dtype": dtype, "options": options}
    whole = Recorder(bad=4)
    wanted = train(tmp_path / "whole", recorder=whole, save_every=1, **fields)
    if dtype == "float16":
        assert len(set(whole.scales)) > 2  # the factor grew and shrank
    for k in range(1, 10):
        source = str(wanted.step(k))
        found = train(tmp_path / str(k), recorder=Recorder(bad=4), resume_from=source, **fields)
        assert not tree_differences(found.tree(), wanted.tree())


@pytest.mark.parametrize(("writer", "reader"), [DTYPES, DTYPES[::-1]])
def test_a_checkpoint_of_another_format_is_refused(
    tmp_path: Path, writer: str, reader: str
) -> None:
    train(tmp_path / "a", amp_dtype=writer, save_every=5)
    with pytest.raises(CheckpointError, match="gradient scaler"):
        train(tmp_path / "b", amp_dtype=reader, resume_from=str(tmp_path / "a/step_5.pt"))
