"""A policy's parameters in groups, and what of a checkpoint's optimiser fits a run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from torch import nn

from simscaleai_core.errors import PolicyError
from simscaleai_core.run.optimisation import parameter_groups


def test_frozen_parameters_are_left_out() -> None:
    policy = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    policy[0].requires_grad_(False)
    (group,) = parameter_groups(policy)
    assert [id(p) for p in group["params"]] == [id(p) for p in policy[1].parameters()]


def test_nothing_to_train_is_named() -> None:
    policy = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(PolicyError, match="nothing to train: Linear has no parameter"):
        parameter_groups(policy)


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
    first, second = parameter_groups(Grouped())
    assert (first["lr"], second["weight_decay"]) == (0.5, 0.0)
    assert len(parameter_groups(GeneratedGroups())[0]["params"]) == 2
