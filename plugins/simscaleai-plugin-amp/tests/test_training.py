"""Mixed precision in real runs: formats, skipped updates, exact resume."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from amp_kit import Probed, Watcher, differences, read, train

from simscaleai_core.errors import CheckpointError

DTYPES = ["bfloat16", "float16"]


def use_foreach(policy: torch.nn.Module, config: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(policy.parameters(), lr=config.lr, foreach=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_forward_pass_computes_in_the_format_and_weights_stay_float32(
    tmp_path: Path, dtype: str
) -> None:
    policy = Probed()
    metrics = train(tmp_path, policy=policy, amp_dtype=dtype)
    assert policy.seen == {getattr(torch, dtype)}
    assert math.isfinite(metrics["final_loss"])
    assert {p.dtype for p in policy.parameters()} == {torch.float32}
    assert bool(read(tmp_path / "final.pt")["scaler_state_dict"]) is (dtype == "float16")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_gradients_reach_the_optimiser_at_their_true_scale(
    tmp_path: Path, dtype: str, accumulate: int
) -> None:
    ours, plain = Watcher(), Watcher()
    train(tmp_path / "a", watcher=ours, amp_dtype=dtype, accumulate=accumulate)
    train(tmp_path / "b", watcher=plain, precision="fp32", options={}, accumulate=accumulate)
    assert torch.allclose(ours.weights[-1], plain.weights[-1], atol=0.03)
    assert not torch.equal(ours.weights[-1], plain.weights[-1])


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_infinite_loss_skips_the_update_and_shifts_the_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, fused: bool
) -> None:
    if not fused:
        monkeypatch.setattr("simscaleai_core.state.build_optimizer", use_foreach)
    good, bad = Watcher(), Watcher(bad=4)
    train(tmp_path / "good", watcher=good, amp_dtype=dtype)
    train(tmp_path / "bad", watcher=bad, amp_dtype=dtype)
    assert torch.equal(bad.weights[4], bad.weights[3])
    assert not torch.equal(bad.weights[5], bad.weights[4])
    assert bad.rates == [*good.rates[:5], *good.rates[4:-1]]
    assert bad.updates == [1, 2, 3, 4, 4, 5, 6, 7, 8, 9]
    assert read(tmp_path / "bad/final.pt")["counters"]["skipped"] == 1
    assert bad.scales[4] == good.scales[4] * (0.5 if dtype == "float16" else 1.0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_vetoed_update_is_skipped_and_the_next_one_is_not(tmp_path: Path, dtype: str) -> None:
    watcher = Watcher(veto=4)
    train(tmp_path, watcher=watcher, amp_dtype=dtype)
    assert torch.equal(watcher.weights[4], watcher.weights[3])
    assert not torch.equal(watcher.weights[5], watcher.weights[4])
    assert watcher.updates[-1] == 9
    assert len(set(watcher.scales)) == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_resume_is_exact_at_every_step(tmp_path: Path, dtype: str) -> None:
    options = {"amp": {"on_cpu": True, "growth_interval": 3}}
    fields: dict[str, Any] = {"amp_dtype": dtype, "options": options}
    whole = Watcher(bad=4)
    train(tmp_path / "whole", watcher=whole, save_every=1, **fields)
    if dtype == "float16":
        assert len(set(whole.scales)) > 2  # the factor grew and shrank
    wanted = read(tmp_path / "whole/final.pt")
    for k in range(1, 10):
        source = tmp_path / "whole" / f"step_{k}.pt"
        train(tmp_path / str(k), watcher=Watcher(bad=4), resume_from=str(source), **fields)
        found = read(tmp_path / str(k) / "final.pt")
        assert not differences({**found, "config": {}}, {**wanted, "config": {}})


@pytest.mark.parametrize(("writer", "reader"), [DTYPES, DTYPES[::-1]])
def test_a_checkpoint_of_another_format_is_refused(
    tmp_path: Path, writer: str, reader: str
) -> None:
    train(tmp_path / "a", amp_dtype=writer, save_every=5)
    with pytest.raises(CheckpointError, match="gradient scaler"):
        train(tmp_path / "b", amp_dtype=reader, resume_from=str(tmp_path / "a/step_5.pt"))
