"""Checks of strategies: in one process they change nothing, in two they agree."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import nn

from simscaleai_core.testing import runs
from simscaleai_core.testing.checks import (
    CheckFailed,
    NotApplicable,
    checks_in,
    expect,
    slow,
    text_of,
)
from simscaleai_core.testing.subject import Subject
from simscaleai_core.testing.suite import Suite
from simscaleai_core.testing.trees import tree_differences

_CLOSE = 1e-6


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
        sound, "what the strategy says of itself",
        expected="effective: text, device: torch.device, 0 <= rank < world_size", found=found,
        remedy="Set the four attributes in the constructor.",
    )  # fmt: skip


_ATTRIBUTES = ("effective", "device", "rank", "world_size")


def check_wrapping_keeps_the_policy(subject: Subject) -> None:
    """What `setup` returns gives the policy's own loss."""
    policy = runs.TinyPolicy(dropout=0.0)
    batch = next(iter(runs.loader()))
    wanted = policy(batch)["loss"]
    with _strategy(subject) as strategy:
        module = strategy.setup(policy.to(strategy.device))
        try:
            found = module(batch)["loss"]
        except Exception as error:
            raise CheckFailed(
                f"the wrapped policy: expected its loss, got {text_of(error)}. Return a module "
                "that is called as the policy is."
            ) from error
    expect(
        torch.equal(wanted, found), "the loss of the wrapped policy", expected=float(wanted),
        found=float(found), remedy="Change nothing in the forward pass.",
    )  # fmt: skip


def check_trains_as_one_process_does(subject: Subject) -> None:
    """With one process a run equals that of a single device, to the last bit."""
    _check_wraps(subject)
    plain, ours = runs.Keeper(), runs.Keeper()
    config = subject.config(subject.folder / "plain", strategy="single")
    runs.train(subject, config, listeners=[plain])
    with _launched(subject):
        config = subject.config(subject.folder / "ours", strategy=subject.component.id)
        runs.train(subject, config, listeners=[ours], held_out=True)
    expect(
        plain.losses == ours.losses, "the losses of a run in one process",
        expected=[round(x, 5) for x in plain.losses[:3]],
        found=[round(x, 5) for x in ours.losses[:3]],
        remedy="With one rank, neither scale nor shuffle anything.",
    )  # fmt: skip


def check_accumulation_is_a_larger_batch(subject: Subject) -> None:
    """A batch in two micro-batches gives the losses of the whole batch."""
    _check_wraps(subject)
    found = []
    for number in (1, 2):
        keeper = runs.Keeper()
        with _launched(subject):
            config = subject.config(
                subject.folder / str(number), strategy=subject.component.id, accumulate=number,
                log_every=1,
            )  # fmt: skip
            policy = runs.TinyPolicy(dropout=0.0)
            runs.train(subject, config, policy=policy, listeners=[keeper])
        found.append([keeper.metrics[s]["train/loss"] for s in sorted(keeper.metrics)])
    gap = max(abs(a - b) for a, b in zip(*found, strict=True))
    expect(
        gap < 1e-5, "the losses with two micro-batches", expected="those of the whole batch",
        found=f"a difference of {gap:.3g}", remedy="Share gradients only when `last` is true.",
    )  # fmt: skip


def check_clips_the_norm(subject: Subject) -> None:
    """`clip` returns the norm before clipping and leaves gradients of at most that norm."""
    for largest in (None, 0.5, 1e9):
        layer = nn.Linear(4, 4)
        (3.0 * layer(torch.ones(2, 4)).square().sum()).backward()
        parameters = list(layer.parameters())
        before = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        with _strategy(subject) as strategy:
            said = strategy.clip(parameters, largest)
        after = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        wanted = before if largest is None else before.clamp(max=largest)
        expect(
            torch.allclose(said, before) and torch.allclose(after, wanted, rtol=1e-4),
            f"clip(parameters, {largest})",
            expected=f"norm {float(before):.4g} returned, {float(wanted):.4g} left",
            found=f"{float(said):.4g} returned, {float(after):.4g} left",
            remedy="Use torch.nn.utils.get_total_norm and clip_grads_with_norm_.",
        )  # fmt: skip


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
        same = not tree_differences(wanted, found[name])
        expect(
            same, f"{name} with one rank", expected=wanted, found=found[name],
            remedy="Return the sum over ranks, the values of all ranks, and rank 0's value.",
        )  # fmt: skip


def check_tears_down(subject: Subject) -> None:
    """`teardown` works after every end, and the strategy can be made again."""
    for status in ("done", "stopped", "failed"):
        with _launched(subject):
            try:
                strategy = subject.build()
                strategy.setup(runs.TinyPolicy().to(strategy.device))
                strategy.teardown(status)
                again = subject.build()
                again.teardown("done")
            except Exception as error:
                raise CheckFailed(
                    f"teardown({status!r}) and another run: expected to work, got {text_of(error)}."
                    " Release what the constructor and setup took."
                ) from error


@slow
def check_two_ranks_train_as_one(subject: Subject) -> None:
    """Two processes with half a batch each end with the weights of one with the whole."""
    given = subject.suite.component
    if not isinstance(given, str):
        raise NotApplicable("it was given as a class: two processes need the id of a component")
    fields = {**dict(subject.suite.config), "strategy": given}
    task = json.dumps({"folder": str(subject.folder / "two"), "fields": fields, "batch": 4})
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone",
        "--local-addr=127.0.0.1", "-m", "simscaleai_core.testing.strategy_worker", task,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)  # noqa: S603
    lines = [line for line in done.stderr.splitlines() if "rror" in line]
    expect(
        done.returncode == 0, "a run in two processes", expected="to finish",
        found=(lines or [f"status {done.returncode}"])[0][:300],
        remedy="Start it by hand with torchrun to see where it stops.",
    )  # fmt: skip
    policy = runs.TinyPolicy(dropout=0.0)
    config = subject.config(subject.folder / "one", strategy="single", batch_size=8)
    trainer = runs.train(subject, config, policy=policy, data=runs.loader(40, 8))
    del trainer
    states = [torch.load(subject.folder / f"two/rank{r}.pt", weights_only=True) for r in (0, 1)]
    expect(
        not tree_differences(states[0], states[1]), "the weights of two ranks",
        expected="equality", found="a difference", remedy="Average the gradients over ranks.",
    )  # fmt: skip
    alone = policy.state_dict()
    gaps = [float((v.float() - states[0][k].float()).abs().max()) for k, v in alone.items()]
    expect(
        max(gaps) < _CLOSE * 100, "the weights of two ranks against one process",
        expected=f"a difference below {_CLOSE * 100:g}", found=f"{max(gaps):.3g}",
        remedy="Average the gradients over ranks, do not add them.",
    )  # fmt: skip


class StrategySuite(Suite):
    """Checks of a strategy, with the environment of a launcher that started one process."""

    kind: ClassVar[str] = "strategy"
    checks = checks_in(globals())


def _check_wraps(subject: Subject) -> None:
    try:
        check_wrapping_keeps_the_policy(subject)
    except CheckFailed as error:
        raise NotApplicable("see the check 'wrapping_keeps_the_policy'") from error


@contextmanager
def _launched(subject: Subject) -> Iterator[None]:
    """Set what torchrun sets for a single process."""
    del subject
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    given = {
        "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }  # fmt: skip
    kept = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _strategy(subject: Subject) -> Iterator[Any]:
    with _launched(subject):
        strategy = subject.build()
        try:
            yield strategy
        finally:
            strategy.teardown("done")
