"""Checks of a policy in other places: copies, number formats, devices, processes."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import torch

from simscaleai_core.batches import to_device
from simscaleai_core.testing.bench import (
    dataset,
    fresh_actions,
    loss_of,
    policy_of,
)
from simscaleai_core.testing.checks import (
    CheckFailed,
    NotApplicable,
    checks_in,
    expect,
    slow,
    text_of,
)
from simscaleai_core.testing.subject import Subject
from simscaleai_core.testing.trees import tree_differences
from simscaleai_core.testing.two_ranks import Task, train_alone

_CLOSE = 1e-3


def check_copies_act_alike(subject: Subject) -> None:
    """A deep copy (moving averages) and a pickle (worker processes) act the same."""
    data = dataset(subject)
    policy = policy_of(subject, data)
    wanted = fresh_actions(policy, data, [0, 1])
    ways: dict[str, Any] = {
        "deepcopy": copy.deepcopy, "pickle": lambda p: pickle.loads(pickle.dumps(p)),  # noqa: S301
    }  # fmt: skip
    for name, way in ways.items():
        try:
            other = way(policy)
        except Exception as error:
            raise CheckFailed(
                f"{name} of the policy: expected a copy, got {text_of(error)}. Keep no lambdas, "
                "locks, open files or generators on it; or write __getstate__."
            ) from error
        found = fresh_actions(other, data, [0, 1])
        expect(
            (found == wanted).all(), f"the actions of a {name}", expected="those of the original",
            found="others", remedy="Keep everything that shapes the actions on the policy itself.",
        )  # fmt: skip


def check_bf16_is_finite(subject: Subject) -> None:
    """Under bfloat16 autocast the loss is finite and close to the loss in float32."""
    data = dataset(subject)
    policy = policy_of(subject, data).train()
    batch = data.batch(8)
    plain = float(loss_of(policy, batch).detach())
    torch.manual_seed(1)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = float(policy(batch)["loss"].detach())
    except Exception as error:
        raise CheckFailed(
            f"the forward pass under bfloat16 autocast: expected a loss, got {text_of(error)}. "
            "Bring tensors that meet to one dtype."
        ) from error
    expect(
        np.isfinite(found) and abs(found - plain) <= 0.1 * abs(plain) + 0.05,
        "the loss under bfloat16 autocast",
        expected=f"about {plain:.4g}",
        found=f"{found:.4g}",
        remedy="Compute sums, exponentials and small differences in float32.",
    )


def check_moves_between_devices(subject: Subject) -> None:
    """No tensor is made on a device of the policy's own choice: all of it runs on another one.

    The other device is ``meta``, which has shapes and no values.

    Raises:
        CheckFailed: If tensors of two devices meet.
        NotApplicable: If the policy looks at values in its forward pass.
    """
    data = dataset(subject)
    policy = policy_of(subject, data).train()
    batch = data.batch(4)
    loss_of(policy, batch)
    try:
        other = copy.deepcopy(policy).to("meta")
        out = other(to_device(batch, torch.device("meta")))
    except Exception as error:
        said = str(error)
        if "device" in said and "meta" in said and "item()" not in said:
            raise CheckFailed(
                "the forward pass on another device: expected to work, got tensors on two devices "
                f"({said.splitlines()[0][:160]}). Register tensors as buffers, and make new ones "
                "with device=x.device."
            ) from error
        raise NotApplicable(f"it looks at values in forward ({text_of(error)[:80]})") from error
    expect(
        out["loss"].device.type == "meta",
        "the device of the loss",
        expected="that of the batch",
        found=out["loss"].device,
        remedy="Make new tensors with device=x.device.",
    )


@slow
def check_two_ranks_agree(subject: Subject) -> None:
    """Two processes under DistributedDataParallel train to equal weights, which are those of one.

    Policies that draw random numbers in training are compared between ranks only.

    Raises:
        NotApplicable: If two processes cannot build it, or do not know the strategy.
    """
    given = subject.suite.component
    if not isinstance(given, str):
        raise NotApplicable("it was given as a class: two processes need the id of a component")
    if not any(c.spec.name == "ddp" for c in subject.host.of_kind("strategy")):
        raise NotApplicable("simscaleai-plugin-ddp is not installed")
    task: dict[str, Any] = {
        "component": given, "options": subject.options, "data": dict(subject.suite.data),
        "folder": str(subject.folder),
    }  # fmt: skip
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone",
        "--local-addr=127.0.0.1", "-m", "simscaleai_core.testing.two_ranks", json.dumps(task),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)  # noqa: S603
    lines = [line for line in done.stderr.splitlines() if "Error" in line or "error" in line]
    expect(
        done.returncode == 0,
        "training in two processes",
        expected="to finish",
        found=(lines or [f"status {done.returncode}"])[0][:300],
        remedy="Use every parameter in each forward pass, and let all ranks do the same.",
    )
    states = [torch.load(subject.folder / f"rank{r}.pt", weights_only=True) for r in (0, 1)]
    differences = tree_differences(states[0], states[1])
    expect(
        not differences, "the weights of two ranks", expected="equality",
        found="; ".join(differences[:3]), remedy="Let no rank draw or decide on its own.",
    )  # fmt: skip
    alone, draws = train_alone(Task(**task))
    if draws:
        return
    gaps = [float((alone[k].float() - v.float()).abs().max()) for k, v in states[0].items()]
    expect(
        max(gaps) < _CLOSE,
        "the weights of two ranks and of one process with the same batches",
        expected=f"a difference below {_CLOSE}",
        found=f"{max(gaps):.3g}",
        remedy="Take the mean of the loss over the batch, so that means of halves are the mean.",
    )


TRAVELLING_CHECKS = checks_in(globals())
"""The checks of this module."""
