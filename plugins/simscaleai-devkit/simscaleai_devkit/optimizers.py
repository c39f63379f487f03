"""Checks of optimisers: every parameter, the rates, state, skipped updates, exact resume."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from simscaleai_core.builtin.fp32 import Float32
from simscaleai_core.checkpoint.serialisation import to_serialisable
from simscaleai_core.contracts import Precision
from simscaleai_core.host.components import maker
from simscaleai_core.run.metrics import loss_of
from simscaleai_core.run.state import Run
from simscaleai_core.run.train_step import apply_gradients
from simscaleai_devkit.agreement import expect_two_ranks_agree
from simscaleai_devkit.checks import checks_in, expect, expect_none, left_to, must_work, slow
from simscaleai_devkit.subject import Subject
from simscaleai_devkit.suite import Suite
from simscaleai_devkit.support.policies import TinyPolicy
from simscaleai_devkit.support.process import expect_left_alone
from simscaleai_devkit.support.trees import expect_equal
from simscaleai_devkit.support.trials import (
    Scaled,
    batch_of,
    begin,
    changed,
    expect_no_draws,
    weights_of,
)

_PLAIN: dict[str, Any] = {"schedule": "builtin/constant", "warmup_steps": 0, "grad_clip": 0.0}
_STEPS = 60
_ENOUGH = 0.9


def check_takes_every_parameter(subject: Subject) -> None:
    """It has each parameter that it is given once, and no other, also those of several groups."""
    policy = TinyPolicy()
    first, *rest = policy.parameters()
    groups: list[list[dict[str, Any]]] = [
        [{"params": [first, *rest]}],
        [{"params": rest}, {"params": [first]}],
    ]
    names = {id(p): name for name, p in policy.named_parameters()}
    for given in groups:
        optimizer = _build(subject, given)
        held = [id(p) for group in optimizer.param_groups for p in group["params"]]
        wrong = [f"{name} {held.count(key)} times" for key, name in names.items()
                 if held.count(key) != 1]  # fmt: skip
        wrong += ["a parameter that it was not given"] if set(held) - set(names) else []
        fact = f"parameters in the {len(given)} groups that it is given"
        remedy = "Give all of them to the constructor of torch.optim.Optimizer."
        expect_none(wrong, fact, expected="each once", remedy=remedy)


def check_updates_every_parameter(subject: Subject) -> None:
    """An update changes every parameter that has a gradient, and no other."""
    with left_to("takes_every_parameter"):
        run = _begin(subject)
    before = weights_of(run.policy)
    _gradients(run)
    idle = "net.0.bias"
    run.policy.get_parameter(idle).grad = None
    remedy = "step() is called without arguments; skip parameters whose gradient is None."
    with must_work("an update in which a parameter has no gradient", remedy=remedy):
        apply_gradients(run, {})
    moved = changed(before, run.policy)
    still = [name for name in before if name not in [*moved, idle]]
    remedy = "Update every parameter of every group."
    expect_none(still, "parameters with a gradient that an update leaves alone", remedy=remedy)
    moved = [idle] if idle in moved else []
    remedy = "Skip parameters whose gradient is None."
    expect_none(moved, "parameters without a gradient that an update changes", remedy=remedy)


def check_lowers_the_loss(subject: Subject) -> None:
    """Sixty updates on one batch lower its loss by a tenth, at the suite's rate."""
    run = _ready(subject)
    losses = [_update(run) for _ in range(_STEPS)]
    expect(
        math.isfinite(losses[-1]) and losses[-1] < _ENOUGH * losses[0],
        f"the loss of one batch after {_STEPS} updates at lr={run.config.lr:g}",
        expected=f"less than {_ENOUGH * losses[0]:.4g}",
        found=f"{losses[-1]:.4g}",
        remedy="Step against the gradient; set the suite's config = {'lr': ...} if it needs "
        "another rate.",
    )


def check_takes_rates_from_the_configuration(subject: Subject) -> None:
    """Rate and decay are the configuration's where a group has none, else the group's own."""
    config = subject.config(weight_decay=0.03125)
    first, *rest = TinyPolicy().parameters()
    own = {"lr": config.lr / 4, "weight_decay": 0.0}
    with left_to("takes_every_parameter"):
        optimizer = _build(subject, [{"params": rest}, {"params": [first], **own}], config)
        groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    wanted = {"lr": config.lr, "weight_decay": config.weight_decay}
    for what, parameter, values in (("without its own", rest[0], wanted), ("own", first, own)):
        group = groups[id(parameter)]
        found = {name: group.get(name, values[name] if name != "lr" else None) for name in values}
        expect(
            found == values,
            f"rates of a group, {what}",
            expected=values,
            found=found,
            remedy="Pass the groups on as they are, with lr=config.lr and "
            "weight_decay=config.weight_decay as defaults.",
        )


def check_follows_the_rate(subject: Subject) -> None:
    """The rate is read from the groups at each update: at 0 nothing changes, and then it goes on.

    A schedule sets it there.
    """
    run = _ready(subject)
    _update(run)
    kept = [group["lr"] for group in run.optimizer.param_groups]
    for rate_is_0 in (True, False):
        for group, rate in zip(run.optimizer.param_groups, kept, strict=True):
            group["lr"] = 0.0 if rate_is_0 else rate
        before = weights_of(run.policy)
        _update(run)
        moved = changed(before, run.policy)
        expect(
            bool(moved) != rate_is_0,
            f"the parameters after an update at the rate {0 if rate_is_0 else kept[0]:g}",
            expected="as before" if rate_is_0 else "changed",
            found="changed" if moved else "as before",
            remedy="Multiply every update by group['lr'], as it is at that time.",
        )


def check_state_has_the_layout_of_torch(subject: Subject) -> None:
    """Its state has `state` and `param_groups`, parameters by number, and fits a checkpoint."""
    run = _ready(subject)
    for _ in range(2):
        _update(run)
    remedy = "Return super().state_dict(); keep tensors, numbers and text in self.state[parameter]."
    with must_work("state_dict()", expected="a table", remedy=remedy):
        tree = dict(run.optimizer.state_dict())
    fact, expected = "its state", "tensors and plain containers"
    with must_work(fact, expected=expected, remedy=remedy):
        to_serialisable(tree)
    groups = tree.get("param_groups") or []
    numbers = [n for group in groups for n in (group.get("params") or [])]
    count = len(run.parameters)
    found = {"keys": sorted(tree), "params": sorted(numbers), "state of": sorted(tree["state"])}
    expect(
        sorted(tree) == ["param_groups", "state"]
        and sorted(numbers) == list(range(count))
        and set(tree["state"]) <= set(range(count)),
        "the layout of its state",
        expected=f"param_groups and state, of parameters 0 to {count - 1}",
        found=found,
        remedy=remedy,
    )


def check_state_is_restored(subject: Subject) -> None:
    """With its state loaded, another one goes on to the last bit, in float32 and with scaling."""
    _expect_layout(subject)
    run = _ready(subject)
    for _ in range(3):
        _update(run)
    state = copy.deepcopy(run.optimizer.state_dict())
    other = _ready(subject, policy=copy.deepcopy(run.policy))
    remedy = "Keep in self.state and in the groups all that updates depend on."
    with must_work("load_state_dict()", remedy=remedy):
        other.optimizer.load_state_dict(state)
    for one in (run, other):
        for _ in range(3):
            _update(one)
    fact = "weights after three updates with a state that was loaded"
    expect_equal(weights_of(other.policy), weights_of(run.policy), fact, remedy=remedy)


def check_resume_is_exact(subject: Subject) -> None:
    """Training 10 steps equals training 5, saving, loading and training 5 more, to the last bit."""
    _expect_layout(subject)
    with left_to("state_is_restored"):
        check_state_is_restored(subject)
    fields = {"optimizer": subject.component.id}
    remedy = "Keep in self.state and in the groups all that updates depend on."
    subject.expect_resumable(fields, at=5, remedy=remedy)


def check_skipped_update_changes_nothing(subject: Subject) -> None:
    """A gradient that is not finite leaves weights and state as if the step had not been made.

    Also where the decision is the optimiser's own: fused ones, and those that say of themselves
    that they take a gradient scaler's.
    """
    precisions: dict[str, Callable[..., Precision]] = {"float32": Float32, "loss scaling": Scaled}
    for name, kind in precisions.items():
        runs = [_ready(subject, precision=kind) for _ in range(2)]
        for run in runs:
            _update(run)
        before = weights_of(runs[0].policy)
        _update(runs[0], factor=math.inf)
        moved = changed(before, runs[0].policy)
        remedy = "Change nothing where found_inf is 1, or do not declare that it is honoured."
        fact = f"parameters that a skipped update changes, with {name}"
        expect_none(moved, fact, remedy=remedy)
        for run in runs:
            _update(run)
        one, other = (weights_of(run.policy) for run in runs)
        fact = f"weights after an update that follows a skipped one, with {name}"
        expect_equal(one, other, fact, expected="those without the skipped one", remedy=remedy)


def check_takes_scaled_gradients(subject: Subject) -> None:
    """Under a gradient scaler the weights are those of float32, to the last bit."""
    found = []
    for kind in (Float32, Scaled):
        run = _ready(subject, precision=kind)
        for _ in range(3):
            _update(run)
        found.append(weights_of(run.policy))
    fact = "weights after three updates under a gradient scaler of a power of two"
    remedy = "Leave gradients to the scaler: read them in step() only, from param_groups."
    expect_equal(found[1], found[0], fact, expected="those without a scaler", remedy=remedy)


def check_random_state_is_left_alone(subject: Subject) -> None:
    """Building and updating draw no global random numbers, which differ between ranks."""
    run = _ready(subject)
    remedy = "Draw from a torch.Generator of your own, seeded by config.seed."
    calls = {"building it": lambda: _ready(subject), "an update": lambda: _update(run)}
    expect_no_draws(calls, remedy=remedy)


def check_process_is_left_alone(subject: Subject) -> None:
    """Settings, functions of torch, environment and threads are as before, after an update."""
    fact, remedy = "the process after an update", "Leave settings to the run."
    expect_left_alone(lambda: _update(_ready(subject)), fact, remedy=remedy)


@slow
def check_two_ranks_agree(subject: Subject) -> None:
    """Two processes end with equal weights, which are those of one process with both batches."""
    fields = {"optimizer": subject.component.id}
    remedy = "Make updates a function of gradients and state alone."
    expect_two_ranks_agree(subject, fields, remedy=remedy, is_one=True)


class OptimizerSuite(Suite):
    """Checks of an optimiser, on a small network and the CPU."""

    kind: ClassVar[str] = "optimizer"
    checks = checks_in(globals())


def _build(
    subject: Subject, groups: list[dict[str, Any]], config: Any = None
) -> torch.optim.Optimizer:
    remedy = "Return a torch.optim.Optimizer of the parameters in the groups."
    with must_work("building it", remedy=remedy), subject.skip_without_settings("it is not built"):
        make = maker(subject.host, "optimizer", subject.component.id, config or subject.config())
        built: torch.optim.Optimizer = make(groups)
        return built


def _begin(
    subject: Subject,
    *,
    policy: nn.Module | None = None,
    precision: Callable[..., Precision] = Float32,
) -> Run:
    with subject.skip_without_settings("it cannot be built"):
        config = subject.config(optimizer=subject.component.id, **_PLAIN)
        policy = TinyPolicy(dropout=0.0) if policy is None else policy
        return begin(subject.host, config, policy, precision=precision(config))


def _ready(subject: Subject, **given: Any) -> Run:
    """Return a run with an optimiser that updates, for a check of something else."""
    with left_to("takes_every_parameter"):
        run = _begin(subject, **given)
    with left_to("updates_every_parameter"):
        _update(_begin(subject))
    return run


def _expect_layout(subject: Subject) -> None:
    with left_to("state_has_the_layout_of_torch"):
        check_state_has_the_layout_of_torch(subject)


def _gradients(run: Run, *, factor: float = 1.0) -> float:
    """Add the gradients of a batch, always the same one, and return its loss."""
    loss = loss_of(run.module(batch_of(16)), run.policy, step=run.step)
    run.precision.backward(loss * factor)
    return float(loss.detach())


def _update(run: Run, *, factor: float = 1.0) -> float:
    """Make one update, and return the loss before it."""
    loss = _gradients(run, factor=factor)
    metrics: dict[str, Tensor] = {}
    apply_gradients(run, metrics)
    return loss
