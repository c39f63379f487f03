"""Checks of what a policy learns from: loss, gradients, padding."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from simscaleai_devkit.checks import NotApplicable, checks_in, expect, expect_none, must_work
from simscaleai_devkit.models.driver import (
    expect_no_seeding,
    loss_of,
    mean_loss,
    policy_and_batch,
    policy_and_data,
)
from simscaleai_devkit.subject import Subject
from simscaleai_devkit.support.trees import expect_equal


def check_loss_is_a_scalar(subject: Subject) -> None:
    """The forward pass returns a mapping with a finite scalar ``loss`` that has a gradient."""
    policy, batch = policy_and_batch(subject, 4)
    remedy = "Take the batch as simscaleai_core.contracts draws it."
    with must_work("the forward pass of a batch", expected="a loss", remedy=remedy):
        out = policy(batch)
    loss = out.get("loss") if isinstance(out, Mapping) else None
    is_scalar = isinstance(loss, Tensor) and loss.ndim == 0 and loss.is_floating_point()
    found = loss.detach() if isinstance(loss, Tensor) else type(loss or out).__name__
    expect(
        is_scalar and loss is not None and math.isfinite(float(loss.detach())),
        "the loss",
        expected="a finite scalar tensor under the key 'loss'",
        found=f"{found!r:.80}",
        remedy="Return {'loss': the mean over the batch, ...}.",
    )
    expect(
        loss is not None and loss.requires_grad,
        "the loss",
        expected="a tensor with a gradient",
        found="one without",
        remedy="Compute it outside torch.no_grad(), from the parameters.",
    )


def check_metrics_are_finite(subject: Subject) -> None:
    """Further scalars of the forward pass, which are logged, are finite."""
    policy, batch = policy_and_batch(subject, 4)
    loss_of(policy, batch)
    out = policy(batch)
    scalars = {n: v for n, v in out.items() if isinstance(v, Tensor) and v.ndim == 0}
    wrong = [f"{n}: {float(v.detach())}" for n, v in scalars.items() if not bool(v.isfinite())]
    wrong += [f"the key {n!r}" for n in out if not isinstance(n, str)]
    expect_none(
        wrong,
        "the metrics of the forward pass",
        expected="finite scalars under names",
        remedy="Guard the division or logarithm that they come from.",
    )


def check_batch_is_not_changed(subject: Subject) -> None:
    """The forward pass leaves the batch as it is: listeners and evaluations share it."""
    policy, batch = policy_and_batch(subject, 4)
    kept = copy.deepcopy(batch)
    loss_of(policy, batch)
    remedy = "Use out-of-place operations; build a new dict."
    expect_equal(
        batch, kept, "the batch after the forward pass", expected="as before", remedy=remedy
    )


def check_every_parameter_learns(subject: Subject) -> None:
    """Every parameter that asks for a gradient gets a finite one, and is in one of its groups.

    DistributedDataParallel waits for all gradients; an optimiser moves what the groups hold.
    """
    policy, batch = policy_and_batch(subject, 8)
    expect_complete_groups(policy)
    for seed in range(3):
        torch.autograd.backward(loss_of(policy, batch, seed=seed))
    without = [n for n, p in policy.named_parameters() if p.requires_grad and p.grad is None]
    remedy = "Use them in forward, or set requires_grad_(False)."
    expect_none(without, "parameters without a gradient", remedy=remedy)
    graded = [(n, p.grad) for n, p in policy.named_parameters() if p.grad is not None]
    broken = [n for n, gradient in graded if not gradient.isfinite().all()]
    remedy = "Guard the root, division or logarithm in the loss."
    expect_none(broken, "parameters whose gradient is not finite", remedy=remedy)


def check_loss_follows_the_seed(subject: Subject) -> None:
    """Under one seed the loss of a batch is the same to the last bit; forward sets no seed."""
    policy, batch = policy_and_batch(subject, 4)
    one, two = (float(loss_of(copy.deepcopy(policy), batch, seed=5).detach()) for _ in range(2))
    remedy = "Draw from torch's, NumPy's or Python's global generator only."
    expect_equal(two, one, "two losses of one batch under one seed", remedy=remedy)
    expect_no_seeding("the forward pass", lambda s: loss_of(copy.deepcopy(policy), batch, seed=s))


def check_overfits_one_batch(subject: Subject) -> None:
    """Trained on eight samples alone, the loss falls to half."""
    policy, batch = policy_and_batch(subject, 8)
    before = mean_loss(policy, batch)
    parameters = [p for p in policy.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=subject.suite.overfit_lr)
    best = before
    for step in range(subject.suite.overfit_steps):
        optimizer.zero_grad()
        loss = loss_of(policy, batch, seed=100 + step)
        if not loss.requires_grad:
            raise NotApplicable("its loss has no gradient: see the check 'loss_is_a_scalar'")
        torch.autograd.backward(loss)
        optimizer.step()
        if step % 25 == 24:
            best = min(best, mean_loss(policy, batch))
            if best < subject.suite.overfit_fraction * before:
                return
    fact = f"the loss after {subject.suite.overfit_steps} steps on one batch"
    expected = f"less than {subject.suite.overfit_fraction:g} of the {before:.4g} at the start"
    remedy = (
        "See that the actions reach the loss and the gradients the weights; or set overfit_steps "
        "and overfit_lr."
    )
    expect(False, fact, expected=expected, found=f"{best:.4g}", remedy=remedy)


def check_padding_is_ignored(subject: Subject) -> None:
    """Actions where ``is_pad`` is true do not change the loss."""
    policy, data = policy_and_data(subject)
    if not data.pad:
        raise NotApplicable("it asks for no padded windows")
    policy.train()
    batch = data.batch(8)
    changed = {**batch, "actions": batch["actions"].clone()}
    is_pad = batch["is_pad"].reshape(batch["actions"].shape[:-1])
    changed["actions"][is_pad] += 0.5
    one, two = (float(loss_of(policy, b).detach()) for b in (batch, changed))
    is_same, expected = math.isclose(one, two, rel_tol=1e-5), f"{one:.6g}, as before"
    fact = "the loss after padded actions were changed"
    remedy = "Multiply the error by ~batch['is_pad'] and divide by its sum."
    expect(is_same, fact, expected=expected, found=f"{two:.6g}", remedy=remedy)


def expect_complete_groups(policy: Any) -> None:
    """Fail a check unless ``parameter_groups()``, if there is one, holds what is to be trained."""
    if not hasattr(policy, "parameter_groups"):
        return
    remedy = "Return torch's parameter groups: [{'params': [...], 'weight_decay': 0.0}, ...]."
    with must_work("parameter_groups() in an optimiser", remedy=remedy):
        optimizer = torch.optim.SGD(policy.parameter_groups(), lr=0.0)
    grouped = {id(p) for group in optimizer.param_groups for p in group["params"]}
    named = [(n, p) for n, p in policy.named_parameters() if p.requires_grad]
    forgotten = [name for name, parameter in named if id(parameter) not in grouped]
    remedy = "Put each into one group, or set requires_grad_(False)."
    expect_none(forgotten, "parameters that parameter_groups() leaves out", remedy=remedy)


LEARNING_CHECKS = checks_in(globals())
"""The checks of this module."""
