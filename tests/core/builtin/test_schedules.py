"""The schedules: 0, the peak, and then each its own way; never more than the peak."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from simscaleai_core.builtin.plugin import WsdOptions
from simscaleai_core.builtin.schedules import constant, cosine, linear, wsd
from simscaleai_core.config import TrainConfig
from simscaleai_core.run.optimisation import advance

PEAK = 0.5


def _optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=PEAK)


def _schedule(
    optimizer: torch.optim.Optimizer, warmup_steps: int, max_steps: int, name: str = "cosine"
) -> LRScheduler:
    config = TrainConfig(warmup_steps=warmup_steps, max_steps=max_steps)
    builders: dict[str, Any] = {
        "cosine": cosine,
        "constant": constant,
        "linear": linear,
        "wsd": wsd,
    }
    built: LRScheduler = builders[name](optimizer, config, WsdOptions(decay_fraction=0.25))
    return built


def _rates(
    warmup_steps: int, max_steps: int, count: int | None = None, name: str = "cosine"
) -> list[float]:
    optimizer = _optimizer()
    schedule = _schedule(optimizer, warmup_steps, max_steps, name)
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
    advance(_schedule(optimizer, warmup, steps), updates)
    assert optimizer.param_groups[0]["lr"] == stepped


SHAPES = {
    "constant": [0, 0.5, 1, 1, 1, 1, 1, 1, 1, 1, 1],
    "linear": [0, 0.5, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0],
    "wsd": [0, 0.5, 1, 1, 1, 1, 1, 1, 1, 0.5, 0],
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_others_follow_their_shape(name: str) -> None:
    assert _rates(2, 10, name=name) == pytest.approx([PEAK * f for f in SHAPES[name]])
    assert _rates(0, 4, name=name)[0] == PEAK


@pytest.mark.parametrize("name", ["cosine", *SHAPES])
def test_a_saved_schedule_goes_on_where_it_stood(name: str) -> None:
    """Its state is of plain values, and gives the same rates again."""
    whole = _rates(2, 10, name=name)
    optimizer = _optimizer()
    schedule = _schedule(optimizer, 2, 10, name)
    for _ in range(5):
        optimizer.step()
        schedule.step()
    saved, groups = schedule.state_dict(), optimizer.state_dict()
    again = _optimizer()
    resumed = _schedule(again, 2, 10, name)
    again.load_state_dict(groups)
    resumed.load_state_dict(saved)
    rates = []
    for _ in range(5, 11):
        rates.append(again.param_groups[0]["lr"])
        again.step()
        resumed.step()
    assert rates == whole[5:]
