"""Checks of train steps: results, events, skipped updates, memory, ranks, exact resume."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from simscaleai_core.builtin.fp32 import Float32
from simscaleai_core.checkpoint.serialisation import to_serialisable
from simscaleai_core.contracts import Stateful, StepResult
from simscaleai_core.errors import ConfigError, PolicyError
from simscaleai_devkit.agreement import expect_two_ranks_agree
from simscaleai_devkit.checks import (
    NotApplicable,
    checks_in,
    expect,
    expect_none,
    left_to,
    must_work,
    raised_by,
    slow,
    text_of,
)
from simscaleai_devkit.subject import Subject
from simscaleai_devkit.suite import Suite
from simscaleai_devkit.support.host_reads import HostReads
from simscaleai_devkit.support.policies import TinyPolicy
from simscaleai_devkit.support.process import process_unchanged, settings_restored
from simscaleai_devkit.support.runs import loader
from simscaleai_devkit.support.threads import LostRankError, ThreadRank, on_two_ranks
from simscaleai_devkit.support.trees import expect_equal
from simscaleai_devkit.support.trials import (
    Scaled,
    batch_of,
    changed,
    expect_no_seeding,
    weights_of,
)
from simscaleai_devkit.train_steps.driver import (
    SIZE,
    ClipsNothing,
    Marker,
    NeverReads,
    Watched,
    batch_for,
    begun,
    not_finite,
    policy_of,
    ready,
)

_STEPS = 40
_ENOUGH = 0.95
_CLOSE = 1e-4
_HALF = 0.1  # relative difference that float16 may make in an update


def check_gives_a_result(subject: Subject) -> None:
    """`update` returns a `StepResult`: detached scalars with the loss, applied, and the output."""
    remedy = "Return StepResult(metrics, applied, out)."
    own = (ConfigError, PolicyError, AttributeError, KeyError)  # a member that it needs
    with (
        must_work("update(run, batch)", expected="a result", remedy=remedy),
        subject.skip_without_settings("it cannot train the kit's policy", own),
    ):
        result = begun(subject).update(batch_for(subject))
    is_result = isinstance(result, StepResult)
    kind = type(result).__name__
    expect(is_result, "what update returned", expected="StepResult", found=kind, remedy=remedy)
    fact, remedy = "the metrics", "Use scalars_of(out), or detach() each."
    wrong = [f"{name}: {_shown(value)}" for name, value in result.metrics.items()
             if not _is_scalar(value)]  # fmt: skip
    expect_none(wrong, fact, expected="detached scalars", remedy=remedy)
    names, remedy = ", ".join(result.metrics) or "none", "Add {'loss': loss.detach()}."
    expect("loss" in result.metrics, fact, expected="'loss'", found=names, remedy=remedy)
    applied, out = result.applied, result.out
    is_flag = isinstance(applied, bool) or (
        isinstance(applied, Tensor) and applied.ndim == 0 and applied.dtype is torch.bool
    )
    remedy = "Return what apply_gradients returned."
    expected = "a bool, or a bool tensor []"
    expect(is_flag, "applied", expected=expected, found=_shown(applied), remedy=remedy)
    remedy = "Return what the policy returned for the last micro-batch."
    is_out = isinstance(out, Mapping) and "loss" in out
    expect(is_out, "out", expected="a mapping with 'loss'", found=_shown(out), remedy=remedy)


def check_lowers_the_loss(subject: Subject) -> None:
    """Forty updates on one batch lower the policy's loss."""
    trial, batch = ready(subject, optimizer="builtin/adamw"), batch_for(subject)
    before = _loss(trial.run.policy, batch)
    for _ in range(_STEPS):
        trial.update(batch)
    after = _loss(trial.run.policy, batch)
    expect(
        math.isfinite(after) and after < _ENOUGH * before,
        f"the policy's loss of one batch after {_STEPS} updates",
        expected=f"less than {_ENOUGH * before:.4g}",
        found=f"{after:.4g}",
        remedy="Step against the gradient of the loss.",
    )


def check_reports_what_it_does(subject: Subject) -> None:
    """`applied` is true exactly if the parameters change."""
    trial = ready(subject)
    before = weights_of(trial.run.policy)
    result = trial.update(batch_for(subject))
    _expect_applied(
        trial, before, result, True, "an update", "Return what apply_gradients returned."
    )


def check_skips_what_is_not_finite(subject: Subject) -> None:
    """A batch whose loss is NaN changes no parameter, says so, and the next update works."""
    trial, other = ready(subject), ready(subject)
    remedy = "Call apply_gradients, and put back what was changed for the gradient."
    for one in (trial, other):
        one.update(batch_for(subject))
    before = weights_of(trial.run.policy)
    with must_work("an update with a loss that is NaN", expected="to be skipped", remedy=remedy):
        result = trial.update(not_finite(batch_for(subject)))
    fact = "an update with a loss that is NaN"
    _expect_applied(trial, before, result, False, fact, remedy)
    for one in (trial, other):
        one.update(batch_for(subject, 1))
    fact = "weights after an update that follows a skipped one"
    expected = "those without the skipped one"
    ours, theirs = weights_of(trial.run.policy), weights_of(other.run.policy)
    expect_equal(ours, theirs, fact, expected=expected, remedy=remedy)


def check_veto_is_obeyed(subject: Subject) -> None:
    """An update that a listener vetoes changes no parameter, and says so."""
    _expect_events(subject)
    with left_to("reports_what_it_does"):
        check_reports_what_it_does(subject)
    trial = ready(subject, listeners=[Marker(veto=True)])
    before = weights_of(trial.run.policy)
    result = trial.update(batch_for(subject))
    remedy = "Call apply_gradients, and put back what was changed for the gradient."
    _expect_applied(trial, before, result, False, "an update that is vetoed", remedy)


def check_fires_its_events(subject: Subject) -> None:
    """Listeners transform every batch that is seen, and see the gradients before the update."""
    _begin(subject)
    marker, policy = Marker(), Watched(policy_of(subject))
    trial = begun(subject, policy=policy, listeners=[marker])
    trial.update(batch_for(subject))
    remedy = "Take micro-batches from micro_batches(run, batch)."
    unmarked = policy.is_marked.count(False) if policy.sizes else "no batch"
    fact = "batches that the policy saw and no listener transformed"
    expect(unmarked == 0, fact, expected="none", found=unmarked, remedy=remedy)
    norms = marker.norms
    expect(
        norms and max(norms) > 0,
        "simscale_on_grads_ready",
        expected="fired once the gradients are there",
        found=f"{len(norms)} times, the largest gradient {max(norms, default=0.0):g}",
        remedy="Call apply_gradients before the gradients are let go.",
    )


def check_leaves_no_gradients(subject: Subject) -> None:
    """After an update, also a skipped one, no parameter has a gradient."""
    trial = ready(subject)
    for batch in (batch_for(subject), not_finite(batch_for(subject))):
        if raised_by(lambda batch=batch: trial.update(batch)):  # type: ignore[misc]
            raise NotApplicable("see the check 'skips_what_is_not_finite'")
        left = [n for n, p in trial.run.policy.named_parameters() if p.grad is not None]
        remedy = "Set parameter.grad = None, as apply_gradients does."
        expect_none(left, "parameters with a gradient after an update", remedy=remedy)


def check_frozen_parameters_stay(subject: Subject) -> None:
    """What does not require a gradient is left alone."""
    policy = policy_of(subject)
    first, frozen = next(policy.named_parameters())
    frozen.requires_grad_(False)
    if not any(p.requires_grad for p in policy.parameters()):
        raise NotApplicable("its policy has one parameter")
    ready(subject)
    remedy = "Work on run.parameters, and skip those without a gradient."
    with must_work(f"updates with {first} frozen", remedy=remedy):
        trial = begun(subject, policy=policy)
        before = weights_of(policy)
        for number in range(2):
            trial.update(batch_for(subject, number))
    moved = [name for name in changed(before, policy) if name == first]
    expect_none(moved, "frozen parameters that an update changed", remedy=remedy)


def check_batch_is_not_changed(subject: Subject) -> None:
    """The batch that it is given is as before: a dataset may keep it."""
    trial, batch = ready(subject), batch_for(subject)
    kept = copy.deepcopy(batch)
    trial.update(batch)
    fact, remedy = "the batch that it was given", "Build a new dict; use out-of-place operations."
    expect_equal(batch, kept, fact, expected="as before", remedy=remedy)


def check_modes_are_restored(subject: Subject) -> None:
    """Train mode of every module and torch's gradient mode are as before an update."""
    trial = ready(subject)
    trial.update(batch_for(subject))
    wrong = [n or "the policy" for n, m in trial.run.policy.named_modules() if not m.training]
    wrong += [] if torch.is_grad_enabled() else ["gradients are disabled"]
    remedy = "Put back what was switched: policy.train(), `with torch.no_grad():`."
    expect_none(wrong, "what is no longer in train mode after an update", remedy=remedy)


def check_accumulation_saves_memory_alone(subject: Subject) -> None:
    """With accumulate=2 no forward pass sees more than half a batch; the weights are as with 1.

    A step whose loss depends on the whole batch declares this check unsupported.
    """
    found = []
    for parts in (1, 2):
        policy = Watched(policy_of(subject))
        ready(subject)
        with must_work(f"updates with accumulate={parts}", remedy="Use micro_batches."):
            trial = begun(subject, policy=policy, accumulate=parts)
            for number in range(3):
                trial.update(batch_for(subject, number))
        expect(
            max(policy.sizes) <= SIZE // parts,
            f"samples in a forward pass, of a batch of {SIZE} with accumulate={parts}",
            expected=f"at most {SIZE // parts}",
            found=max(policy.sizes),
            remedy="Take micro-batches from micro_batches(run, batch).",
        )
        found.append(weights_of(policy.inner))
    one, two = found
    gap = max(float((one[name] - two[name]).abs().max()) for name in one)
    expect(
        gap < _CLOSE,
        "the weights after three updates with accumulate=2",
        expected=f"those with 1, within {_CLOSE:g}",
        found=f"a difference of {gap:.3g}",
        remedy="Multiply each micro-batch's loss by its weight, and step once for all of them.",
    )


def check_trains_with_loss_scaling(subject: Subject) -> None:
    """In float16 the forward pass is under autocast and updates are nearly those of float32."""
    updates = []
    for dtype in (None, torch.float16):
        policy = Watched(policy_of(subject))
        ready(subject)
        precision = Float32 if dtype is None else _half
        remedy = "Use run.precision.autocast(), run.precision.backward(loss) and apply_gradients."
        with must_work("updates with loss scaling", remedy=remedy):
            trial = begun(subject, policy=policy, precision=precision)
            before = weights_of(policy.inner)
            for number in range(2):
                trial.update(batch_for(subject, number))
        moved = [value - before[n] for n, value in weights_of(policy.inner).items()]
        updates.append(torch.cat([value.flatten() for value in moved]))
        outside = policy.is_autocast.count(False) if dtype is not None else 0
        fact = "forward passes outside run.precision.autocast()"
        expect(outside == 0, fact, expected="none", found=outside, remedy=remedy)
    gap = float((updates[1] - updates[0]).norm() / updates[0].norm())
    expect(
        gap < _HALF,
        "two updates in float16 with loss scaling against float32",
        expected=f"a relative difference below {_HALF:g}",
        found=f"{gap:.3g}",
        remedy=remedy,
    )


def check_never_waits_for_the_device(subject: Subject) -> None:
    """Nothing that is computed from the weights is read on the host: a GPU would stall.

    What the precision, the strategy and torch's own optimisers read is theirs.
    """
    trial = ready(subject)
    run, step = trial.run, trial.step
    run.strategy, run.precision = ClipsNothing(run.config), NeverReads(run.config)
    with HostReads(run.policy.parameters()) as reads:
        step.update(run, batch_for(subject))
    remedy = "Keep values on the device: torch.where for decisions, detached metrics for numbers."
    places = sorted(set(reads.places))
    expect_none(places, "places where it reads a computed value on the host", remedy=remedy)


def check_ranks_agree(subject: Subject) -> None:
    """Two ranks with other batches make the same exchanges and end with the same weights."""
    ready(subject)
    config = subject.config()

    def train(strategy: ThreadRank) -> dict[str, Tensor]:
        trial = begun(subject, strategy=strategy)
        for number in range(3):
            trial.update(batch_for(subject, 2 * number + strategy.rank))
        return weights_of(trial.run.policy)

    remedy = (
        "Call run.module within run.strategy.sync(...), and share what ranks decide on by "
        "run.strategy.reduce."
    )
    found: list[Any] = [None, None]
    error = raised_by(lambda: found.__setitem__(slice(None), on_two_ranks(config, train)))
    said = str(error) if isinstance(error, LostRankError) else text_of(error)
    fact = "training on two ranks"
    expect(error is None, fact, expected="the same exchanges", found=said, remedy=remedy)
    fact = "weights of two ranks with other batches"
    expect_equal(found[1], found[0], fact, expected="equality", remedy=remedy)


def check_state_is_plain(subject: Subject) -> None:
    """Its state, if it has one, fits a checkpoint."""
    trial = ready(subject)
    if not isinstance(trial.step, Stateful):
        raise NotApplicable("it keeps no state")
    trial.update(batch_for(subject))
    fact, expected = "its state", "tensors and plain containers"
    with must_work(fact, expected=expected, remedy="Convert it in state_dict()."):
        to_serialisable(trial.step.state_dict())


def check_resume_is_exact(subject: Subject) -> None:
    """Training 10 steps equals training 5, saving, loading and training 5 more, to the last bit."""
    ready(subject)
    with left_to("state_is_plain"), suppress(NotApplicable):
        check_state_is_plain(subject)
    fields = {"train_step": subject.component.id}
    given: dict[str, Any] = {
        "policy": lambda: policy_of(subject),
        "data": subject.suite.make_loader,
    }
    remedy = "Return in state_dict what steps change, and take it in load_state_dict."
    subject.expect_resumable(fields, at=5, remedy=remedy, **given)


def check_random_state_is_not_set(subject: Subject) -> None:
    """It may draw from the global random generators, and does not seed them."""
    ready(subject)
    calls = {"an update": lambda: begun(subject).update(batch_for(subject))}
    expect_no_seeding(calls, remedy="Draw from the generators as they are.")


def check_process_is_left_alone(subject: Subject) -> None:
    """Settings, functions of torch, environment and threads are as before, after an update."""
    with settings_restored():  # imports that come late are not its doing
        ready(subject)
    trial = begun(subject)
    fact, remedy = "the process after an update", "Undo it, or leave it to the run."
    with process_unchanged(fact, remedy=remedy, ignore_random=True):
        trial.update(batch_for(subject))


@slow
def check_two_ranks_agree(subject: Subject) -> None:
    """Two processes under DistributedDataParallel end with equal weights."""
    if subject.suite.make_policy.__func__ is not TrainStepSuite.make_policy.__func__:  # type: ignore[attr-defined]
        raise NotApplicable("it needs a policy of its own: see the check 'ranks_agree'")
    fields = {"train_step": subject.component.id}
    remedy = "Call run.module within run.strategy.sync(...)."
    expect_two_ranks_agree(subject, fields, remedy=remedy)


class TrainStepSuite(Suite):
    """Checks of a train step. Give it `make_policy` if it needs a policy of its own."""

    kind: ClassVar[str] = "train_step"
    checks = checks_in(globals())

    @classmethod
    def make_policy(cls) -> nn.Module:
        """Return a policy that it trains, always the same one and without dropout."""
        return TinyPolicy(dropout=0.0)

    @classmethod
    def make_batch(cls, size: int, seed: int) -> dict[str, Any]:
        """Return a batch for that policy, with ``actions``; a function of the arguments."""
        return batch_of(size, seed=seed)

    @classmethod
    def make_loader(cls) -> DataLoader[Any]:
        """Return a loader for a run of ten steps with that policy, always the same one."""
        return loader()


def _half(config: Any) -> Scaled:
    return Scaled(config, torch.float16)


def _loss(policy: nn.Module, batch: Mapping[str, Any]) -> float:
    with torch.no_grad():
        return float(policy(batch)["loss"])


def _is_scalar(value: object) -> bool:
    return isinstance(value, Tensor) and value.ndim == 0 and not value.requires_grad


def _shown(value: object) -> str:
    if isinstance(value, Tensor):
        kind = str(value.dtype).removeprefix("torch.")
        return f"{kind} {list(value.shape)}, requires_grad={value.requires_grad}"
    return f"{type(value).__name__} {value!r:.60}"


def _begin(subject: Subject) -> None:
    ready(subject)


def _expect_events(subject: Subject) -> None:
    with left_to("fires_its_events"):
        check_fires_its_events(subject)


def _expect_applied(
    trial: Any, before: Mapping[str, Tensor], result: StepResult, wanted: bool, fact: str,
    remedy: str,
) -> None:  # fmt: skip
    moved = changed(before, trial.run.policy)
    expect(
        bool(result.applied) == bool(moved) == wanted,
        fact,
        expected=f"{'applied' if wanted else 'skipped'}, and reported so",
        found=f"{', '.join(moved[:3]) or 'nothing'} changed, applied={bool(result.applied)}",
        remedy=remedy,
    )
