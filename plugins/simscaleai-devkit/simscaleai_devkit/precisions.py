"""Checks of precisions: true gradients, safe updates, exact resume; and the suite with them."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from simscaleai_core.checkpoint.serialisation import to_serialisable
from simscaleai_devkit.checks import checks_in, expect, left_to, must_work, name_of
from simscaleai_devkit.subject import Subject
from simscaleai_devkit.suite import Suite
from simscaleai_devkit.support import runs
from simscaleai_devkit.support.policies import TinyPolicy
from simscaleai_devkit.support.process import process_unchanged
from simscaleai_devkit.support.trees import expect_equal

_MAX_RELATIVE_DIFFERENCE = 0.05
_MAX_ROUNDING = 1e-5


def check_says_what_is_in_effect(subject: Subject) -> None:
    """After `setup`, `effective` is a text: it is printed and stored."""
    effective = getattr(_ready(subject), "effective", None)
    is_text = isinstance(effective, str) and effective.strip()
    remedy = "Set it in setup, such as 'bfloat16 autocast'."
    expect(is_text, "effective", expected="a text", found=repr(effective), remedy=remedy)


def check_autocast_is_reusable(subject: Subject) -> None:
    """`autocast` gives one context that can be entered at every step."""
    precision = _ready(subject)
    is_same = precision.autocast() is precision.autocast()
    fact, remedy = "two calls of autocast()", "Build it in setup and keep it."
    expect(is_same, fact, expected="the same object", found="two", remedy=remedy)
    remedy = "Use a context that can be entered many times, such as torch.autocast."
    with must_work("entering autocast() again", remedy=remedy):
        for _ in range(3):
            with precision.autocast():
                pass


def check_gradients_have_their_true_scale(subject: Subject) -> None:
    """After `backward` and `unscale`, gradients are those of float32 within 5 %."""
    policy, optimizer = _policy()
    _backward(_ready(subject), policy, optimizer)
    in_float32, _ = _policy()
    torch.autograd.backward(in_float32(_batch())["loss"])
    pairs = zip(policy.named_parameters(), in_float32.parameters(), strict=True)
    for (name, ours), theirs in pairs:
        if ours.grad is None or theirs.grad is None:
            found: object = "no gradient"
        else:
            found = float((ours.grad.float() - theirs.grad).norm() / theirs.grad.norm())
        expect(
            isinstance(found, float) and found < _MAX_RELATIVE_DIFFERENCE,
            f"the gradient of {name} against float32",
            expected=f"a relative difference below {_MAX_RELATIVE_DIFFERENCE}",
            found=found,
            remedy="Divide by the scale in unscale().",
        )


def check_applies_a_sound_update(subject: Subject) -> None:
    """With finite gradients the parameters change and `step` returns True."""
    remedy = "Call optimizer.step() and return True."
    _expect_update(subject, "an update with finite gradients", applied=True, remedy=remedy)


def check_skips_what_is_not_finite(subject: Subject) -> None:
    """With an infinite gradient nothing changes and `step` returns False; the next update works."""
    fact = "an update with an infinite gradient"
    remedy = "Return False without a step if the norm is not finite."
    trial = _expect_update(subject, fact, factor=float("inf"), applied=False, remedy=remedy)
    before = trial.weights()
    for _ in range(2):
        trial.optimizer.zero_grad()
        trial.step()
    is_applied, fact = not torch.equal(before, trial.weights()), "the update after a skipped one"
    remedy = "Lower the scale after a skip, and reset what unscale() recorded."
    expect(is_applied, fact, expected="applied", found="skipped", remedy=remedy)


def check_veto_is_obeyed(subject: Subject) -> None:
    """A vetoed update changes nothing and counts as not applied."""
    remedy = "Return False without a step if veto is true."
    _expect_update(subject, "a vetoed update", veto=True, applied=False, remedy=remedy)


def check_weights_stay_float32(subject: Subject) -> None:
    """Weights and gradients keep float32 and every bit of it, whatever is computed in."""
    trial, exact = _Trial(subject), _Trial(subject)
    for _ in range(2):
        trial.step()
        found = list(trial.policy.parameters())
        dtypes = {t.dtype for p in found for t in (p, p.grad) if t is not None}
        names, remedy = ", ".join(sorted(map(str, dtypes))), "Cast in autocast(), not the module."
        fact, is_float32 = "dtypes of weights and gradients", dtypes == {torch.float32}
        expect(is_float32, fact, expected="float32", found=names, remedy=remedy)
        for ours, theirs in zip(found, exact.policy.parameters(), strict=True):
            theirs.grad = ours.grad
        exact.optimizer.step()
        trial.optimizer.zero_grad()
    gap = float((trial.weights() - exact.weights()).abs().max())
    expect(
        gap < _MAX_ROUNDING,
        "weights after two updates",
        expected=f"those that the optimiser gives in float32, within {_MAX_ROUNDING:g}",
        found=f"a difference of {gap:.3g}",
        remedy="Keep the weights in float32 and round copies of them, as torch.autocast does.",
    )


def check_state_is_plain(subject: Subject) -> None:
    """Its state fits a checkpoint and is restored."""
    trial = _Trial(subject)
    trial.step()
    remedy = "Return tensors and plain containers."
    with must_work("its state", expected="to be saved and loaded", remedy=remedy):
        state = to_serialisable(trial.precision.state_dict())
        other = _ready(subject)
        other.load_state_dict(state)
        again = to_serialisable(other.state_dict())
    remedy = "Restore in load_state_dict everything that state_dict returns."
    expect_equal(again, state, "its state after it was loaded", remedy=remedy)


def check_process_is_left_alone(subject: Subject) -> None:
    """Settings and functions of torch are as before, after `setup` and a step."""
    remedy = "Keep settings inside autocast()."
    with process_unchanged("the process after setup and a step", remedy=remedy, ignore_random=True):
        _Trial(subject).step()


def check_resume_is_exact(subject: Subject) -> None:
    """Training 10 steps equals training 5, saving, loading and training 5 more, to the last bit."""
    for check in (check_weights_stay_float32, check_state_is_plain):  # a run needs both
        with left_to(name_of(check)):
            check(subject)
    fields = {"precision": subject.component.id}
    remedy = "Put everything that steps change into state_dict."
    whole = subject.train("whole", fields)
    subject.expect_exact_resume(whole, fields, at=5, remedy=remedy)


class PrecisionSuite(Suite):
    """Checks of a precision, on the CPU."""

    kind: ClassVar[str] = "precision"
    checks = checks_in(globals())


class _Trial:
    """A policy and its optimiser, trained in the precision under test."""

    def __init__(self, subject: Subject) -> None:
        self.precision = _ready(subject)
        self.policy, self.optimizer = _policy()

    def step(self, *, factor: float = 1.0, veto: bool = False) -> bool:
        """Train one step, and return whether the precision reports it as applied."""
        norm = _backward(self.precision, self.policy, self.optimizer, factor=factor)
        return bool(self.precision.step(self.optimizer, norm, veto))

    def weights(self) -> Tensor:
        """Return a copy of all weights `[P]`."""
        return torch.cat([p.detach().flatten().clone() for p in self.policy.parameters()])


def _expect_update(
    subject: Subject,
    fact: str,
    *,
    applied: bool,
    remedy: str,
    factor: float = 1.0,
    veto: bool = False,
) -> _Trial:
    """Fail a check unless one step is applied, or skipped, and reported so."""
    trial = _Trial(subject)
    before = trial.weights()
    is_reported = trial.step(factor=factor, veto=veto)
    is_changed = not torch.equal(before, trial.weights())
    expect(
        is_reported == is_changed == applied,
        fact,
        expected=f"{'applied' if applied else 'skipped'}, and reported so",
        found=f"{'changed' if is_changed else 'unchanged'} parameters and {is_reported}",
        remedy=remedy,
    )
    return trial


def _ready(subject: Subject) -> Any:
    precision = subject.build()
    precision.setup(torch.device("cpu"))
    return precision


def _policy() -> tuple[nn.Module, torch.optim.Optimizer]:
    policy = TinyPolicy(hidden=16, dropout=0.0)
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
