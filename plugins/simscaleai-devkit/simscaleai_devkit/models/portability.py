"""Checks of a policy elsewhere: copies, number formats, devices, processes."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from simscaleai_core.data.batches import to_device
from simscaleai_devkit.checks import (
    NotApplicable,
    checks_in,
    expect,
    must_work,
    raised_by,
    slow,
    text_of,
)
from simscaleai_devkit.models.driver import (
    fresh_actions,
    loss_of,
    policy_and_batch,
    policy_and_data,
)
from simscaleai_devkit.models.worker import Task, train_alone
from simscaleai_devkit.subject import Subject
from simscaleai_devkit.support.ranks import largest_gap, weights_of_two_ranks

_CLOSE = 1e-3
_COPIES: Mapping[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda policy: pickle.loads(pickle.dumps(policy)),  # noqa: S301 - our own bytes
}


def check_copies_act_alike(subject: Subject) -> None:
    """A deep copy (moving averages) and a pickle (worker processes) act the same."""
    policy, data = policy_and_data(subject)
    wanted = fresh_actions(policy, data, [0, 1])
    remedy = "Keep no lambdas, locks, open files or generators on it; or write __getstate__."
    for name, copied in _COPIES.items():
        with must_work(f"{name} of the policy", expected="a copy", remedy=remedy):
            other = copied(policy)
        expect(
            (fresh_actions(other, data, [0, 1]) == wanted).all(),
            f"the actions of a {name}",
            expected="those of the original",
            found="others",
            remedy="Keep everything that shapes the actions on the policy itself.",
        )


def check_bf16_is_finite(subject: Subject) -> None:
    """Under bfloat16 autocast the loss is finite and close to the loss in float32."""
    policy, batch = policy_and_batch(subject, 8)
    wanted = float(loss_of(policy, batch).detach())
    torch.manual_seed(1)
    fact = "the forward pass under bfloat16 autocast"
    remedy = "Bring tensors that meet to one dtype."
    with (
        must_work(fact, expected="a loss", remedy=remedy),
        torch.autocast("cpu", dtype=torch.bfloat16),
    ):
        found = float(policy(batch)["loss"].detach())
    expect(
        np.isfinite(found) and abs(found - wanted) <= 0.1 * abs(wanted) + 0.05,
        "the loss under bfloat16 autocast",
        expected=f"about {wanted:.4g}",
        found=f"{found:.4g}",
        remedy="Compute sums, exponentials and small differences in float32.",
    )


def check_moves_between_devices(subject: Subject) -> None:
    """No tensor is made on a device of the policy's own choice: all of it runs on another one.

    The other device is ``meta``, which has shapes and no values.

    Raises:
        NotApplicable: If the forward pass reads values.
    """
    policy, batch = policy_and_batch(subject, 4)
    loss_of(policy, batch)
    devices: list[torch.device] = []

    def run_on_meta() -> None:
        out = copy.deepcopy(policy).to("meta")(to_device(batch, torch.device("meta")))
        devices.append(out["loss"].device)

    error = raised_by(run_on_meta)
    message = str(error)
    is_mixed = "device" in message and "meta" in message and "item()" not in message
    if error and not is_mixed:
        raise NotApplicable(f"its forward pass reads values ({text_of(error)[:80]})")
    expect(
        not error and devices[0].type == "meta",
        "the forward pass on another device",
        expected="all tensors on the device of the batch",
        found=f"tensors on two devices ({message.splitlines()[0][:160] if error else devices[0]})",
        remedy="Register tensors as buffers, and make new ones with device=x.device.",
    )


@slow
def check_two_ranks_agree(subject: Subject) -> None:
    """Two processes under DistributedDataParallel train to equal weights, which are those of one.

    Policies that draw random numbers in training are compared between ranks only.

    Raises:
        NotApplicable: If two processes cannot build it, or do not know the strategy.
    """
    if not any(c.spec.name == "ddp" for c in subject.host.of_kind("strategy")):
        raise NotApplicable("simscaleai-plugin-ddp is not installed")
    task: dict[str, Any] = {
        "component": subject.installed_id(),
        "options": subject.options,
        "data": dict(subject.suite.data),
        "folder": str(subject.folder),
    }
    weights = weights_of_two_ranks(
        "simscaleai_devkit.models.worker",
        task,
        subject.folder,
        remedy="Use every parameter in each forward pass, and let all ranks do the same.",
        equal_remedy="Let no rank draw or decide on its own.",
    )
    alone, draws = train_alone(Task(**task))
    if draws:
        return
    gap, expected = largest_gap(alone, weights), f"a difference below {_CLOSE}"
    fact = "the weights of two ranks and of one process with the same batches"
    remedy = "Take the mean of the loss over the batch, so that means of halves are the mean."
    expect(gap < _CLOSE, fact, expected=expected, found=f"{gap:.3g}", remedy=remedy)


PORTABILITY_CHECKS = checks_in(globals())
"""The checks of this module."""
