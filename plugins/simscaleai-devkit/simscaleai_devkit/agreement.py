"""Training with a component in two processes, under DistributedDataParallel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simscaleai_devkit.checks import NotApplicable, expect
from simscaleai_devkit.subject import Subject
from simscaleai_devkit.support.policies import TinyPolicy
from simscaleai_devkit.support.ranks import largest_gap, weights_of_two_ranks
from simscaleai_devkit.support.runs import loader

_CLOSE = 1e-3
_STRATEGY = "ddp/ddp"


def expect_two_ranks_agree(
    subject: Subject, fields: Mapping[str, Any], *, remedy: str, is_one: bool = False
) -> None:
    """Fail a check unless two processes end with equal weights.

    Args:
        subject: The component under test.
        fields: Fields of the configuration that use it, as JSON can hold them.
        remedy: One thing to do if the weights differ, a sentence.
        is_one: Whether they must be those of one process with the batches of both.

    Raises:
        NotApplicable: If two processes cannot use it, or do not know the strategy.
    """
    if not any(c.id == _STRATEGY for c in subject.host.of_kind("strategy")):
        raise NotApplicable("simscaleai-plugin-ddp is not installed")
    options = {subject.installed_id(): subject.options}
    given = {**dict(subject.suite.config), **fields, "options": options}
    folder = subject.folder / "two"
    weights = weights_of_two_ranks(
        "simscaleai_devkit.strategies.worker",
        {"folder": str(folder), "fields": {**given, "strategy": _STRATEGY}, "batch": 4},
        folder,
        remedy="Start it by hand with torchrun to see where it stops.",
        equal_remedy=remedy,
    )
    if not is_one:
        return
    policy = TinyPolicy(dropout=0.0)
    alone = {**fields, "strategy": "single", "batch_size": 8}
    subject.train("one", alone, policy=policy, data=loader(40, 8))
    gap, expected = largest_gap(policy.state_dict(), weights), f"a difference below {_CLOSE:g}"
    fact = "the weights of two ranks and of one process with both batches"
    expect(gap < _CLOSE, fact, expected=expected, found=f"{gap:.3g}", remedy=remedy)
