"""Comparing two checkpoints: equal is equal to the last bit, and the first difference is named."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from simscaleai_core.cli.comparing import PARTS, compare


def checkpoint() -> dict[str, Any]:
    weights = torch.tensor([[1.0, float("nan")], [0.0, 2.0]])
    moments = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2)}}}
    return {
        "model_state_dict": {"a": weights, "b": torch.zeros(0), "c": torch.tensor(1, dtype=torch.int8)},
        "optimizer_state_dict": {**moments, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99)}]},
        "scheduler_state_dict": {"last_epoch": 3},
        "scaler_state_dict": {},
        "counters": {"step": 3, "best_eval_loss": float("inf")},
        "rng": [{"python": (3, (1, 2, 3), None), "torch": torch.tensor([1, 2], dtype=torch.uint8)}],
        "states": {"loop": {"last_loss": float("nan"), "is_finished": True}},
    }  # fmt: skip


def set_at(tree: Any, *keys: Any, value: Any) -> None:
    for key in keys[:-1]:
        tree = tree[key]
    tree[keys[-1]] = value


def test_a_copy_is_equal_whatever_it_holds() -> None:
    parts = compare(checkpoint(), copy.deepcopy(checkpoint()))
    assert [part.name for part in parts] == list(PARTS)
    assert not any(part.different or part.first for part in parts)
    finished, asked = checkpoint(), checkpoint()  # how it came to be saved is no part of the run
    set_at(asked, "states", "loop", "is_finished", value=False)
    assert not any(part.different for part in compare(finished, asked))


@pytest.mark.parametrize(
    ("part", "change", "first"),
    [
        ("weights", lambda t: t["model_state_dict"]["a"][1].add_(1e-3),
         "model_state_dict.a: 2 of 4 numbers differ, by 0.001 at most"),
        ("weights", lambda t: t["model_state_dict"]["a"][1, 0].neg_(),
         "model_state_dict.a: 1 of 4 numbers differ, by 0 at most"),
        ("weights", lambda t: t["model_state_dict"].pop("c"),
         "model_state_dict.c: is missing now"),
        ("weights", lambda t: set_at(t, "model_state_dict", "d", value=1),
         "model_state_dict.d: is missing there"),
        ("weights", lambda t: set_at(t, "model_state_dict", "a", value=torch.zeros(3)),
         "model_state_dict.a: [2, 2] of torch.float32 there, [3] of torch.float32 now"),
        ("optimiser state", lambda t: t["optimizer_state_dict"]["state"][0]["step"].add_(1),
         "optimizer_state_dict.state.0.step: 1 of 1 numbers differ, by 1 at most"),
        ("schedule", lambda t: set_at(t, "scheduler_state_dict", "last_epoch", value=4),
         "scheduler_state_dict.last_epoch: 3 there, 4 now"),
        ("counters", lambda t: set_at(t, "counters", "best_eval_loss", value=0.5),
         "counters.best_eval_loss: inf there, 0.5 now"),
        ("random states", lambda t: set_at(t, "rng", 0, "python", value=(3, (1, 2, 4), None)),
         "rng.0.python.1: is another list"),
        ("random states", lambda t: t["rng"].append({}), "rng: has 1 entries there, 2 now"),
        ("other states", lambda t: set_at(t, "states", "loop", "last_loss", value=1.0),
         "states.loop.last_loss: nan there, 1.0 now"),
    ],
)  # fmt: skip
def test_the_first_difference_is_named(
    part: str, change: Callable[[dict[str, Any]], Any], first: str
) -> None:
    changed = copy.deepcopy(checkpoint())
    change(changed)
    (found,) = (p for p in compare(checkpoint(), changed) if p.different)
    assert (found.name, found.first) == (part, first)
