"""Checks of eval functions: finite numbers, no side effects; and the suite with them."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import nn

from simscaleai_core.contracts import Mean
from simscaleai_core.errors import SimScaleError
from simscaleai_core.seeding import forked_rng
from simscaleai_devkit.checks import (
    NotApplicable,
    checks_in,
    expect,
    expect_none,
    left_to,
    must_work,
    raised_by,
    text_of,
)
from simscaleai_devkit.subject import Subject
from simscaleai_devkit.suite import Suite
from simscaleai_devkit.support.leaks import (
    watched_envs,
    watched_leaks,
    watched_temporary_files,
)
from simscaleai_devkit.support.listeners import PlannedError
from simscaleai_devkit.support.policies import TinyPolicy
from simscaleai_devkit.support.process import process_unchanged, settings_restored
from simscaleai_devkit.support.trees import expect_equal


def check_gives_numbers(subject: Subject) -> None:
    """It returns at least one number by name: a finite float, or a `Mean` with a count."""
    remedy = "Give the suite the `config` and `make_policy` that it needs."
    with must_work("measuring a policy", expected="numbers by name", remedy=remedy):
        found = _measured(subject, subject.build(), _policy(subject))
    expect(
        isinstance(found, Mapping) and found and all(isinstance(k, str) for k in found),
        "what it returned",
        expected="numbers by name",
        found=f"{found!r:.80}",
        remedy="Return a dict of floats or Mean(total, count).",
    )
    numbers = {k: v.value if isinstance(v, Mean) else v for k, v in found.items()}
    numbers = {k: v for k, v in numbers.items() if isinstance(v, (int, float))}
    wrong = {k: v for k, v in numbers.items() if not math.isfinite(v)}
    expect(
        numbers and not wrong,
        "its numbers",
        expected="finite ones",
        found=wrong or "none",
        remedy="Return Mean(total, count) with a count above 0.",
    )


def check_measures_the_same_twice(subject: Subject) -> None:
    """The same policy measures the same, to the last bit, twice in one run."""
    function, policy = subject.build(), _policy(subject)
    one, two = (_numbers(_tried(subject, function, policy.eval())) for _ in range(2))
    remedy = "Seed what it draws, and begin anew in each call."
    expect_equal(two, one, "two measurements of one policy", remedy=remedy)


def check_policy_is_left_alone(subject: Subject) -> None:
    """Weights, mode and gradients of the policy are as before."""
    policy = _policy(subject).eval()
    before = copy.deepcopy(policy.state_dict())
    flags = [p.requires_grad for p in policy.parameters()]
    _tried(subject, subject.build(), policy)
    changes = [k for k, v in policy.state_dict().items() if not torch.equal(v, before[k])]
    changes += ["its mode"] if any(m.training for m in policy.modules()) else []
    changes += ["requires_grad"] if flags != [p.requires_grad for p in policy.parameters()] else []
    changes += ["gradients"] if any(p.grad is not None for p in policy.parameters()) else []
    remedy = "Measure only; copy what has to be changed."
    expect_none(changes, "what a measurement changed in the policy", remedy=remedy)


def check_process_is_left_alone(subject: Subject) -> None:
    """Gradient mode, settings, folder, environment and logging are as before; nothing is left open.

    Neither an environment, a file nor a process.
    """
    function, policy = subject.build(), _policy(subject)
    with settings_restored():
        _tried(subject, function, policy)
    fact, remedy = "the process after a measurement", "Undo what is changed, and print nothing."
    with (
        _nothing_left(subject, "a measurement"),
        process_unchanged(fact, remedy=remedy, check_stdout=True),
    ):
        _tried(subject, function, policy)


def check_failure_is_raised(subject: Subject) -> None:
    """An exception of the policy comes through, nothing is left, and the next measurement works."""
    function = subject.build()
    _tried(subject, function, _policy(subject))
    with left_to("process_is_left_alone"), _nothing_left(subject, "a measurement"):
        _tried(subject, function, _policy(subject))
    broken = _policy(subject)
    called: list[bool] = []

    def fail(*_: Any, **__: Any) -> Any:
        called.append(True)
        raise PlannedError("planned")

    broken.predict = broken.forward = fail
    with _nothing_left(subject, "a measurement that failed"):
        error = raised_by(lambda: _measured(subject, function, broken))
        is_planned, found = "planned" in str(error), text_of(error)
        error = None  # and with it what its traceback holds
    if found == "no error" and not called:
        raise NotApplicable("it does not call the policy")
    fact, remedy = "an exception of the policy", "Do not catch it."
    expect(is_planned, fact, expected="to come through", found=found, remedy=remedy)
    remedy = "Close in `finally` what was opened."
    with must_work("a measurement after one that failed", remedy=remedy):
        _measured(subject, function, _policy(subject))


@contextmanager
def _nothing_left(subject: Subject, what: str) -> Iterator[None]:
    """Fail a check if the body leaves environments, files or processes."""
    with (
        watched_leaks() as held,
        watched_temporary_files(subject.folder / "temporary") as files,
        watched_envs() as envs,
    ):
        yield
    left = [f"an environment {name} that is not closed" for name in sorted(set(envs))]
    left += [*held, *(f"the temporary file {name}" for name in files)]
    remedy = "Close in `finally` what was opened, and end what was started."
    expect_none(left, f"what {what} left", expected="nothing", remedy=remedy)


class EvalFunctionSuite(Suite):
    """Checks of an eval function. Give it `config` and `make_policy` for what it measures."""

    kind: ClassVar[str] = "eval_function"
    checks = checks_in(globals())

    @classmethod
    def make_policy(cls) -> nn.Module:
        """Return a policy that it can measure; always the same one."""
        return TinyPolicy()


def _policy(subject: Subject) -> Any:
    with forked_rng(0):
        return subject.suite.make_policy().eval()


def _measured(subject: Subject, function: Any, policy: nn.Module) -> Any:
    """Measure as the loop does: without gradients, in random states of the run's seed."""
    errors = (SimScaleError, KeyError, RuntimeError)
    with (
        forked_rng(0),
        torch.no_grad(),
        subject.skip_without_settings("it cannot measure", errors),
    ):
        return function(policy)


def _tried(subject: Subject, function: Any, policy: nn.Module) -> Any:
    with left_to("gives_numbers", "it does not measure"):
        return _measured(subject, function, policy)


def _numbers(found: Mapping[str, Any]) -> dict[str, Any]:
    table: dict[str, Any] = {
        k: (v.total, v.count) if isinstance(v, Mean) else v for k, v in found.items()
    }
    return {k: v.tobytes() if hasattr(v, "tobytes") else v for k, v in table.items()}
