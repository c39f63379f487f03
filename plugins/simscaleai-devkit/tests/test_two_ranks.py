"""Strategies that are sound on one rank and break one thing on two; each fails its check."""

from __future__ import annotations

from typing import Any

import pytest
import torch.distributed as dist
from simscaleai_devkit import StrategySuite
from simscaleai_devkit.suite import name_of, outcomes
from simscaleai_plugin_ddp.options import DDPOptions
from simscaleai_plugin_ddp.strategy import DDPStrategy

pytestmark = pytest.mark.slow


class OnTwoRanks(StrategySuite):
    options_class = DDPOptions
    config = {"backend": "gloo"}
    answer_limit_s = 12.0
    checks = tuple(c for c in StrategySuite.checks if name_of(c) == "two_ranks_communicate")


class ReducesToMean(DDPStrategy):
    def reduce(self, values):
        return super().reduce(values) / self.world_size


class GathersInReverse(DDPStrategy):
    def gather(self, value):
        return super().gather(value)[::-1]


class GathersItselfFirst(DDPStrategy):
    """Right on rank 0 alone."""

    def gather(self, value):
        found = super().gather(value)
        return found[self.rank :] + found[: self.rank]


class BroadcastsItsOwn(DDPStrategy):
    def broadcast(self, value):
        super().broadcast(value)
        return value


class BroadcastsOnRankZero(DDPStrategy):
    """Rank 1 takes what rank 0 has, and rank 0 waits for it."""

    def broadcast(self, value):
        if self.rank == 0:
            dist.barrier(group=self._host_group)
        return "from rank 0"


def _outcome(component: Any) -> Any:
    (found,) = outcomes(type("Checked", (OnTwoRanks,), {"component": component}), deep=True)
    return found


def test_a_sound_strategy_passes() -> None:
    assert _outcome(DDPStrategy).status == "passed"


def test_a_strategy_of_one_rank_is_passed_over() -> None:
    suite = type("Checked", (OnTwoRanks,), {"component": "builtin/single", "options_class": None})
    (found,) = outcomes(suite, deep=True)
    assert found.status == "skipped"
    assert "one rank" in found.message


@pytest.mark.parametrize(
    ("component", "word"),
    [
        (ReducesToMean, "reduce on rank 0 of 2: expected [3.0, 20.0], got [1.5, 10.0]"),
        (GathersInReverse, "gather on rank 0 of 2"),
        (GathersItselfFirst, "gather on rank 1 of 2"),
        (BroadcastsItsOwn, "broadcast on rank 1 of 2"),
        (BroadcastsOnRankZero, "on rank 0 of 2: expected "),
    ],
)
def test_a_broken_one_fails(component: Any, word: str) -> None:
    found = _outcome(component)
    assert found.status == "failed"
    assert word in found.message
