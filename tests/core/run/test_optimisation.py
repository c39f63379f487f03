"""The optimiser is torch's AdamW; the schedule is 0, peak, 0 and never more."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import PolicyError
from simscaleai_core.run.optimisation import advance, build_optimizer, build_schedule

PEAK = 0.5


def _optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=PEAK)


def _rates(warmup_steps: int, max_steps: int, count: int | None = None) -> list[float]:
    optimizer = _optimizer()
    schedule = build_schedule(optimizer, warmup_steps=warmup_steps, max_steps=max_steps)
    rates = []
    for _ in range(max_steps + 1 if count is None else count):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def _formula(step: int, warmup_steps: int, max_steps: int) -> float:
    if step < warmup_steps:
        return PEAK * step / warmup_steps
    part = (step - warmup_steps) / (max_steps - warmup_steps)
    return PEAK * 0.5 * (1 + math.cos(math.pi * part))


@pytest.mark.parametrize(("warmup", "steps"), [(0, 7), (1, 7), (3, 10), (9, 10), (4, 5)])
def test_rates_follow_the_formula(warmup: int, steps: int) -> None:
    expected = [_formula(s, warmup, steps) for s in range(steps + 1)]
    assert _rates(warmup, steps) == pytest.approx(expected, abs=1e-7)


def test_it_rises_from_zero_to_the_peak_and_falls_to_zero() -> None:
    rates = _rates(4, 12)
    assert rates[0] == pytest.approx(0, abs=1e-7)
    assert rates[4] == pytest.approx(PEAK)
    assert max(rates) == pytest.approx(PEAK)
    assert rates[12] == pytest.approx(0, abs=1e-7)
    assert rates[:5] == sorted(rates[:5])
    assert rates[4:] == sorted(rates[4:], reverse=True)


@pytest.mark.parametrize(("warmup", "steps"), [(5, 5), (8, 5), (500, 1)])
def test_a_warm_up_as_long_as_the_run_takes_all_of_it(warmup: int, steps: int) -> None:
    rates = _rates(warmup, steps, steps)
    assert rates == pytest.approx([PEAK * s / warmup for s in range(steps)], abs=1e-7)


def test_without_warm_up_it_starts_at_the_peak() -> None:
    assert _rates(0, 4)[0] == PEAK


@given(warmup=st.integers(0, 30), steps=st.integers(1, 30), updates=st.integers(0, 30))
def test_advance_is_that_many_steps(warmup: int, steps: int, updates: int) -> None:
    updates = min(updates, steps)
    stepped = _rates(warmup, steps, updates + 1)[-1]
    optimizer = _optimizer()
    advance(build_schedule(optimizer, warmup_steps=warmup, max_steps=steps), updates)
    assert optimizer.param_groups[0]["lr"] == stepped


def test_updates_equal_torchs_adamw() -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Linear(4, 3), nn.Linear(4, 3)
    theirs.load_state_dict(ours.state_dict())
    optimizer = build_optimizer(ours, TrainConfig(lr=0.01, weight_decay=0.1))
    reference = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=0.1, fused=False)
    for _ in range(5):
        x = torch.randn(8, 4)
        for module, opt in ((ours, optimizer), (theirs, reference)):
            opt.zero_grad()
            module(x).square().mean().backward()
            opt.step()
    torch.testing.assert_close(ours.weight, theirs.weight)
    assert type(optimizer) is torch.optim.AdamW
    assert optimizer.param_groups[0]["fused"]


def test_weight_decay_and_rate_matter() -> None:
    """Negative control."""
    torch.manual_seed(0)
    ours, theirs = nn.Linear(4, 3), nn.Linear(4, 3)
    theirs.load_state_dict(ours.state_dict())
    optimizer = build_optimizer(ours, TrainConfig(lr=0.01, weight_decay=0.1))
    reference = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=0.0)
    for module, opt in ((ours, optimizer), (theirs, reference)):
        module(torch.ones(1, 4)).sum().backward()
        opt.step()
    assert not torch.equal(ours.weight, theirs.weight)


def test_frozen_parameters_are_left_out() -> None:
    policy = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    policy[0].requires_grad_(False)
    (group,) = build_optimizer(policy, TrainConfig()).param_groups
    assert [id(p) for p in group["params"]] == [id(p) for p in policy[1].parameters()]


def test_nothing_to_train_is_named() -> None:
    policy = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(PolicyError, match="nothing to train: Linear has no parameter"):
        build_optimizer(policy, TrainConfig())


class Grouped(nn.Module):
    """A policy with groups of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)

    def parameter_groups(self) -> list[dict[str, object]]:
        return [
            {"params": list(self.a.parameters()), "lr": 0.5},
            {"params": list(self.b.parameters()), "weight_decay": 0.0},
        ]


class GeneratedGroups(Grouped):
    """Gives its parameters as a generator, as torch takes them too."""

    def parameter_groups(self) -> Iterator[nn.Parameter]:  # type: ignore[override]
        return self.a.parameters()


def test_a_policy_may_group_its_parameters() -> None:
    first, second = build_optimizer(Grouped(), TrainConfig(lr=0.1, weight_decay=0.2)).param_groups
    assert (first["lr"], first["weight_decay"]) == (0.5, 0.2)
    assert (second["lr"], second["weight_decay"]) == (0.1, 0.0)
    assert len(build_optimizer(GeneratedGroups(), TrainConfig()).param_groups[0]["params"]) == 2
