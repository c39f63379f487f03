"""Checks of precisions: true gradients, safe updates, exact resume."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from simscaleai_core.plain import plain_tree
from simscaleai_core.testing import runs
from simscaleai_core.testing.checks import CheckFailed, checks_in, expect, text_of
from simscaleai_core.testing.process import process_state, state_changes
from simscaleai_core.testing.subject import Subject
from simscaleai_core.testing.suite import Suite
from simscaleai_core.testing.trees import tree_differences

_RELATIVE = 0.05


def check_says_what_is_in_effect(subject: Subject) -> None:
    """After `setup`, `effective` is a text: it is printed and stored."""
    effective = getattr(_ready(subject), "effective", None)
    expect(
        isinstance(effective, str) and effective.strip(), "effective", expected="a text",
        found=repr(effective), remedy="Set it in setup, such as 'bfloat16 autocast'.",
    )  # fmt: skip


def check_autocast_is_reusable(subject: Subject) -> None:
    """`autocast` gives one context that can be entered at every step."""
    precision = _ready(subject)
    first, second = precision.autocast(), precision.autocast()
    expect(
        first is second, "two calls of autocast()", expected="the same object", found="two",
        remedy="Build it in setup and keep it.",
    )  # fmt: skip
    try:
        for _ in range(3):
            with precision.autocast():
                pass
    except Exception as error:
        raise CheckFailed(
            f"entering autocast() again: expected to work, got {text_of(error)}. Use a context "
            "that can be entered many times, such as torch.autocast."
        ) from error


def check_gradients_have_their_true_scale(subject: Subject) -> None:
    """After `backward` and `unscale`, gradients are those of float32 within 5 %."""
    policy, optimizer = _policy()
    _backward(_ready(subject), policy, optimizer)
    plain, _ = _policy()
    torch.autograd.backward(plain(_batch())["loss"])
    for (name, ours), theirs in zip(policy.named_parameters(), plain.parameters(), strict=True):
        if ours.grad is None or theirs.grad is None:
            found: object = "no gradient"
        else:
            found = float((ours.grad.float() - theirs.grad).norm() / theirs.grad.norm())
        expect(
            isinstance(found, float) and found < _RELATIVE,
            f"the gradient of {name} against float32",
            expected=f"a relative difference below {_RELATIVE}", found=found,
            remedy="Divide by the scale in unscale().",
        )  # fmt: skip


def check_applies_a_sound_update(subject: Subject) -> None:
    """With finite gradients the parameters change and `step` says True."""
    policy, optimizer = _policy()
    precision = _ready(subject)
    norm = _backward(precision, policy, optimizer)
    before = _weights(policy)
    applied = bool(precision.step(optimizer, norm, False))
    is_changed = not torch.equal(before, _weights(policy))
    expect(
        applied and is_changed, "an update with finite gradients",
        expected="applied, and said so",
        found=f"{'changed' if is_changed else 'unchanged'} parameters and {applied}",
        remedy="Call optimizer.step() and return True.",
    )  # fmt: skip


def check_skips_what_is_not_finite(subject: Subject) -> None:
    """With an infinite gradient nothing changes and `step` says False; the next update works."""
    policy, optimizer = _policy()
    precision = _ready(subject)
    norm = _backward(precision, policy, optimizer, factor=float("inf"))
    before = _weights(policy)
    applied = bool(precision.step(optimizer, norm, False))
    is_kept = torch.equal(before, _weights(policy))
    expect(
        not applied and is_kept, "an update with an infinite gradient",
        expected="skipped, and said so",
        found=f"{'kept' if is_kept else 'changed'} parameters and {applied}",
        remedy="Return False without a step if the norm is not finite.",
    )  # fmt: skip
    for _ in range(2):
        optimizer.zero_grad()
        norm = _backward(precision, policy, optimizer)
        precision.step(optimizer, norm, False)
    expect(
        not torch.equal(before, _weights(policy)),
        "the update after a skipped one", expected="applied", found="skipped",
        remedy="Lower the scale after a skip, and reset what unscale() noted.",
    )  # fmt: skip


def check_veto_is_obeyed(subject: Subject) -> None:
    """A vetoed update changes nothing and counts as not applied."""
    policy, optimizer = _policy()
    precision = _ready(subject)
    norm = _backward(precision, policy, optimizer)
    before = _weights(policy)
    applied = bool(precision.step(optimizer, norm, True))
    is_kept = torch.equal(before, _weights(policy))
    expect(
        not applied and is_kept, "a vetoed update", expected="skipped, and said so",
        found=f"{'kept' if is_kept else 'changed'} parameters and {applied}",
        remedy="Return False without a step if veto is true.",
    )  # fmt: skip


def check_weights_stay_float32(subject: Subject) -> None:
    """Weights and gradients keep float32, whatever the forward pass computes in."""
    policy, optimizer = _policy()
    precision = _ready(subject)
    norm = _backward(precision, policy, optimizer)
    precision.step(optimizer, norm, False)
    kinds = {p.dtype for p in policy.parameters()}
    kinds |= {p.grad.dtype for p in policy.parameters() if p.grad is not None}
    expect(
        kinds == {torch.float32}, "dtypes of weights and gradients", expected="float32",
        found=", ".join(sorted(map(str, kinds))), remedy="Cast in autocast(), not the module.",
    )  # fmt: skip


def check_state_is_plain(subject: Subject) -> None:
    """Its state fits a checkpoint and is taken back."""
    precision = _ready(subject)
    policy, optimizer = _policy()
    norm = _backward(precision, policy, optimizer)
    precision.step(optimizer, norm, False)
    try:
        state = plain_tree(precision.state_dict())
        other = _ready(subject)
        other.load_state_dict(state)
        again = plain_tree(other.state_dict())
    except Exception as error:
        raise CheckFailed(
            f"its state: expected to be saved and loaded, got {text_of(error)}. Return tensors and "
            "plain containers."
        ) from error
    differences = tree_differences(state, again)
    expect(
        not differences, "its state after it was loaded", expected="equality",
        found="; ".join(differences[:3]), remedy="Take everything back that state_dict gives.",
    )  # fmt: skip


def check_process_is_left_alone(subject: Subject) -> None:
    """Settings of torch are as before, after a step."""
    _ready(subject)
    before = process_state()
    precision = _ready(subject)
    policy, optimizer = _policy()
    precision.step(optimizer, _backward(precision, policy, optimizer), False)
    changes = [c for c in state_changes(before, process_state()) if "random state" not in c]
    expect(
        not changes, "the process after a step", expected="no change", found="; ".join(changes),
        remedy="Keep settings inside autocast().",
    )  # fmt: skip


def check_resume_is_exact(subject: Subject) -> None:
    """Training 10 steps equals training 5, saving, loading and training 5 more, to the last bit."""
    fields = {"precision": subject.component.id}
    config = subject.config(subject.folder / "whole", **fields)
    whole = runs.final_tree(subject, runs.train(subject, config))
    differences = tree_differences(
        whole, runs.interrupted_tree(subject, subject.folder, at=5, fields=fields)
    )
    expect(
        not differences, "a run that was resumed differs from one that was not",
        expected="equality to the last bit", found="; ".join(differences[:3]),
        remedy="Put everything that steps change into state_dict.",
    )  # fmt: skip


class PrecisionSuite(Suite):
    """Checks of a precision, on the CPU."""

    kind: ClassVar[str] = "precision"
    checks = checks_in(globals())


def _ready(subject: Subject) -> Any:
    precision = subject.build()
    precision.setup(torch.device("cpu"))
    return precision


def _policy() -> tuple[nn.Module, torch.optim.Optimizer]:
    policy = runs.TinyPolicy(hidden=16, dropout=0.0)
    return policy, torch.optim.AdamW(policy.parameters(), lr=1e-2)


def _batch() -> dict[str, Any]:
    found = next(iter(runs.loader(16, 16)))
    return {k: found[k] for k in ("observations", "actions")}


def _backward(
    precision: Any, policy: nn.Module, optimizer: torch.optim.Optimizer, *, factor: float = 1.0
) -> Tensor:
    torch.manual_seed(0)
    with precision.autocast():
        loss = policy(_batch())["loss"]
    precision.backward(loss * factor)
    precision.unscale(optimizer)
    gradients = [p.grad for p in policy.parameters() if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)


def _weights(policy: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten().clone() for p in policy.parameters()])
