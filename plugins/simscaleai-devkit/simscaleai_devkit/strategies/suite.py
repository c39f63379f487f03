"""Checks of strategies: one process changes nothing, two agree; and the suite with them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch import nn

from simscaleai_devkit.checks import (
    NotApplicable,
    checks_in,
    expect,
    left_to,
    must_work,
    slow,
)
from simscaleai_devkit.subject import Subject
from simscaleai_devkit.suite import Suite
from simscaleai_devkit.support.listeners import Recorder
from simscaleai_devkit.support.policies import TinyPolicy
from simscaleai_devkit.support.process import process_unchanged, settings_restored
from simscaleai_devkit.support.ranks import (
    free_port,
    largest_gap,
    reports_of_two_ranks,
    weights_of_two_ranks,
)
from simscaleai_devkit.support.runs import loader
from simscaleai_devkit.support.trees import expect_equal

_CLOSE = 1e-4
_ATTRIBUTES = ("effective", "device", "rank", "world_size")


def check_says_what_it_is(subject: Subject) -> None:
    """`effective`, `device`, `rank` and `world_size` are set and fit together."""
    with _strategy(subject) as strategy:
        found = {n: getattr(strategy, n, None) for n in _ATTRIBUTES}
    sound = (
        isinstance(found["effective"], str)
        and found["effective"]
        and isinstance(found["device"], torch.device)
        and isinstance(found["rank"], int)
        and isinstance(found["world_size"], int)
        and 0 <= found["rank"] < found["world_size"]
    )
    expect(
        sound,
        "the attributes of the strategy",
        expected="effective: text, device: torch.device, 0 <= rank < world_size",
        found=found,
        remedy="Set the four attributes in the constructor.",
    )


def check_wrapping_keeps_the_policy(subject: Subject) -> None:
    """What `setup` returns gives the policy's own loss."""
    policy = TinyPolicy(dropout=0.0)
    batch = next(iter(loader()))
    wanted = policy(batch)["loss"]
    with _strategy(subject) as strategy:
        module = strategy.setup(policy.to(strategy.device))
        remedy = "Return a module that is called as the policy is."
        with must_work("the wrapped policy", expected="its loss", remedy=remedy):
            found = module(batch)["loss"]
    fact, remedy = "the loss of the wrapped policy", "Change nothing in the forward pass."
    expect_equal(found.detach(), wanted.detach(), fact, remedy=remedy)


def check_trains_as_one_process_does(subject: Subject) -> None:
    """With one process a run equals that of a single device, to the last bit."""
    _skip_unless_wrapped(subject)
    single, ours = Recorder(), Recorder()
    subject.train("single", {"strategy": "single"}, listeners=[single])
    with _launched():
        fields = {"strategy": subject.component.id}
        subject.train("ours", fields, listeners=[ours], held_out=True)
    expect(
        single.losses == ours.losses,
        "the losses of a run in one process",
        expected=[round(x, 5) for x in single.losses[:3]],
        found=[round(x, 5) for x in ours.losses[:3]],
        remedy="With one rank, neither scale nor shuffle anything.",
    )


def check_accumulation_is_a_larger_batch(subject: Subject) -> None:
    """A batch in two micro-batches gives the losses of the whole batch."""
    _skip_unless_wrapped(subject)
    found = []
    for number in (1, 2):
        recorder = Recorder()
        fields = {"strategy": subject.component.id, "accumulate": number, "log_every": 1}
        with _launched():
            policy = TinyPolicy(dropout=0.0)
            subject.train(str(number), fields, policy=policy, listeners=[recorder])
        found.append([recorder.metrics[s]["train/loss"] for s in sorted(recorder.metrics)])
    gap = max(abs(a - b) for a, b in zip(*found, strict=True))
    expect(
        gap < 1e-5,
        "the losses with two micro-batches",
        expected="those of the whole batch",
        found=f"a difference of {gap:.3g}",
        remedy="Share gradients only when `last` is true.",
    )


def check_clips_the_norm(subject: Subject) -> None:
    """`clip` returns the norm before clipping and leaves gradients of at most that norm."""
    for largest in (None, 0.5, 1e9):
        layer = nn.Linear(4, 4)
        (3.0 * layer(torch.ones(2, 4)).square().sum()).backward()
        parameters = list(layer.parameters())
        before = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        with _strategy(subject) as strategy:
            norm = strategy.clip(parameters, largest)
        after = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        wanted = before if largest is None else before.clamp(max=largest)
        expect(
            torch.allclose(norm, before) and torch.allclose(after, wanted, rtol=1e-4),
            f"clip(parameters, {largest})",
            expected=f"norm {float(before):.4g} returned, {float(wanted):.4g} left",
            found=f"{float(norm):.4g} returned, {float(after):.4g} left",
            remedy="Use torch.nn.utils.get_total_norm and clip_grads_with_norm_.",
        )


def check_one_rank_talks_to_itself(subject: Subject) -> None:
    """With one rank `reduce` is the value, `gather` a list of it and `broadcast` the value."""
    value = {"step": 3, "name": "a", "list": [1, 2.5, None], "tensor": torch.arange(3)}
    with _strategy(subject) as strategy:
        found = {
            "reduce": strategy.reduce(torch.tensor([1.0, 2.0])).tolist(),
            "gather": strategy.gather(value),
            "broadcast": strategy.broadcast(value),
        }
    for name, wanted in {"reduce": [1.0, 2.0], "gather": [value], "broadcast": value}.items():
        remedy = "Return the sum over ranks, the values of all ranks, and rank 0's value."
        expect_equal(found[name], wanted, f"{name} with one rank", remedy=remedy)


def check_tears_down(subject: Subject) -> None:
    """`teardown` works after every end, and the strategy can be made again."""
    for status in ("done", "stopped", "failed"):
        fact = f"teardown({status!r}) and another run"
        remedy = "Release what the constructor and setup took."
        with _launched(), must_work(fact, remedy=remedy):
            strategy = subject.build()
            strategy.setup(TinyPolicy().to(strategy.device))
            strategy.teardown(status)
            again = subject.build()
            again.teardown("done")


def check_process_is_left_alone(subject: Subject) -> None:
    """Settings and functions of torch and the process are as before, after setup and teardown."""
    with settings_restored():  # imports that come late are not its doing
        _set_up_and_tear_down(subject)
    fact = "the process after setup and teardown"
    remedy = "Undo in `teardown` what the constructor and `setup` change."
    with process_unchanged(fact, remedy=remedy, ignore_random=True):
        _set_up_and_tear_down(subject)


def _set_up_and_tear_down(subject: Subject) -> None:
    with left_to("tears_down"), _strategy(subject) as strategy:
        strategy.setup(TinyPolicy().to(strategy.device))


@slow
def check_two_ranks_communicate(subject: Subject) -> None:
    """Over two ranks `reduce` adds, `gather` keeps the order of ranks, `broadcast` gives rank 0's.

    Every rank must get its answer: an exchange that one of them leaves out hangs the others.

    Raises:
        NotApplicable: If it has one rank only.
    """
    found = reports_of_two_ranks(
        lambda report: _communicate(subject, report),
        subject.folder,
        limit_s=subject.suite.answer_limit_s,
    )
    if all(reported.get("world_size") == 1 for reported in found):
        raise NotApplicable("it has one rank, whatever the launcher says")
    for rank, reported in enumerate(found):
        for name, wanted in _ANSWERS.items():
            what = reported.get(name, reported.get("error", "nothing"))
            expect(
                what == wanted,
                f"{name} on rank {rank} of 2",
                expected=wanted,
                found=what,
                remedy="Return the sum over ranks, the values in the order of ranks, and rank 0's "
                "value; make the same exchanges on every rank.",
            )


_ANSWERS: Mapping[str, Any] = {
    "reduce": [3.0, 20.0],
    "gather": [{"rank": 0}, {"rank": 1}],
    "broadcast": "from rank 0",
    "teardown": "done",
}


def _communicate(subject: Subject, report: Callable[[str, Any], None]) -> None:
    strategy = subject.build()
    report("world_size", strategy.world_size)
    strategy.setup(TinyPolicy().to(strategy.device))
    rank = strategy.rank
    report("reduce", strategy.reduce(torch.tensor([rank + 1.0, 10.0])).tolist())
    report("gather", strategy.gather({"rank": rank}))
    report("broadcast", strategy.broadcast(f"from rank {rank}"))
    strategy.teardown("done")
    report("teardown", "done")


@slow
def check_two_ranks_train_as_one(subject: Subject) -> None:
    """Two processes with half a batch each end with the weights of one with the whole."""
    fields = {**dict(subject.suite.config), "strategy": subject.installed_id()}
    folder = subject.folder / "two"
    weights = weights_of_two_ranks(
        "simscaleai_devkit.strategies.worker",
        {"folder": str(folder), "fields": fields, "batch": 4},
        folder,
        remedy="Start it by hand with torchrun to see where it stops.",
        equal_remedy="Average the gradients over ranks.",
    )
    policy = TinyPolicy(dropout=0.0)
    fields = {"strategy": "single", "batch_size": 8}
    subject.train("one", fields, policy=policy, data=loader(40, 8))
    gap = largest_gap(policy.state_dict(), weights)
    expect(
        gap < _CLOSE,
        "the weights of two ranks against one process",
        expected=f"a difference below {_CLOSE:g}",
        found=f"{gap:.3g}",
        remedy="Average the gradients over ranks, do not add them.",
    )


class StrategySuite(Suite):
    """Checks of a strategy, with the environment of a launcher that started one process."""

    kind: ClassVar[str] = "strategy"
    checks = checks_in(globals())

    answer_limit_s: ClassVar[float] = 60.0
    """How long two ranks may take to exchange a few numbers [s]."""


def _skip_unless_wrapped(subject: Subject) -> None:
    with left_to("wrapping_keeps_the_policy"):
        check_wrapping_keeps_the_policy(subject)


@contextmanager
def _launched() -> Iterator[None]:
    """Set what torchrun sets for a single process."""
    kept = dict(os.environ)
    os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=free_port())
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)
        if dist.is_initialized():  # after a failure the process ends, and its group with it
            dist.destroy_process_group()


@contextmanager
def _strategy(subject: Subject) -> Iterator[Any]:
    with _launched():
        strategy = subject.build()
        try:
            yield strategy
        finally:
            strategy.teardown("done")
