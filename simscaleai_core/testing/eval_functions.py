"""Checks of eval functions: numbers that mean something, and no trace of the measurement."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from simscaleai_core.contracts import Mean
from simscaleai_core.errors import SimScaleError
from simscaleai_core.seeding import forked_rng
from simscaleai_core.testing import runs
from simscaleai_core.testing.checks import CheckFailed, NotApplicable, checks_in, expect, text_of
from simscaleai_core.testing.process import captured_stdout, process_state, state_changes
from simscaleai_core.testing.subject import Subject
from simscaleai_core.testing.suite import Suite


def check_gives_numbers(subject: Subject) -> None:
    """It returns at least one number by name: a finite float, or a `Mean` with a count."""
    try:
        found = _measured(subject, subject.build(), _policy(subject))
    except NotApplicable:
        raise
    except Exception as error:
        raise CheckFailed(
            f"measuring a policy: expected numbers by name, got {text_of(error)}. Give the suite "
            "the `config` and `make_policy` that it needs."
        ) from error
    expect(
        isinstance(found, Mapping) and found and all(isinstance(k, str) for k in found),
        "what it returned", expected="numbers by name", found=f"{found!r:.80}",
        remedy="Return a dict of floats or Mean(total, count).",
    )  # fmt: skip
    numbers = {k: v.value if isinstance(v, Mean) else v for k, v in found.items()}
    numbers = {k: v for k, v in numbers.items() if isinstance(v, (int, float))}
    wrong = {k: v for k, v in numbers.items() if not math.isfinite(v)}
    expect(
        numbers and not wrong, "its numbers", expected="finite ones", found=wrong or "none",
        remedy="Return Mean(total, count) with a count above 0.",
    )  # fmt: skip


def check_measures_the_same_twice(subject: Subject) -> None:
    """The same policy measures the same, to the last bit, twice in one run."""
    function, policy = subject.build(), _policy(subject)
    one, two = (_numbers(_tried(subject, function, policy.eval())) for _ in range(2))
    expect(
        one == two, "two measurements of one policy", expected="equality",
        found=f"{one} and {two}", remedy="Seed what it draws, and begin anew in each call.",
    )  # fmt: skip


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
    expect(
        not changes, "the policy after a measurement", expected="as before",
        found=f"{', '.join(changes)} changed", remedy="Measure only; copy what has to be changed.",
    )  # fmt: skip


def check_process_is_left_alone(subject: Subject) -> None:
    """Gradient mode, settings, folder, environment and logging are as before."""
    function, policy = subject.build(), _policy(subject)
    _tried(subject, function, policy)
    before = process_state()
    with captured_stdout() as printed:
        _tried(subject, function, policy)
    changes = state_changes(before, process_state()) + (["standard output"] if printed() else [])
    expect(
        not changes, "the process after a measurement", expected="no change",
        found="; ".join(changes), remedy="Put back what is changed, and print nothing.",
    )  # fmt: skip


def check_failure_is_raised(subject: Subject) -> None:
    """An exception of the policy comes through, and the next measurement works."""
    function = subject.build()
    _tried(subject, function, _policy(subject))
    broken = _policy(subject)
    called: list[bool] = []

    def fail(*_: Any, **__: Any) -> Any:
        called.append(True)
        raise runs.PlannedError("planned")

    broken.predict = broken.forward = fail
    try:
        _measured(subject, function, broken)
    except runs.PlannedError:
        pass
    except Exception as error:  # noqa: BLE001 - said below
        said: str = text_of(error)
        expect(
            "planned" in said, "an exception of the policy", expected="to come through",
            found=said, remedy="Do not catch it.",
        )  # fmt: skip
    else:
        if not called:
            raise NotApplicable("it does not call the policy")
        expect(
            False, "an exception of the policy", expected="to come through", found="numbers",
            remedy="Do not catch it.",
        )  # fmt: skip
    try:
        _measured(subject, function, _policy(subject))
    except Exception as error:
        raise CheckFailed(
            f"a measurement after one that failed: expected to work, got {text_of(error)}. Close "
            "in `finally` what was opened."
        ) from error


class EvalFunctionSuite(Suite):
    """Checks of an eval function. Give it `config` and `make_policy` for what it measures."""

    kind: ClassVar[str] = "eval_function"
    checks = checks_in(globals())

    @classmethod
    def make_policy(cls) -> nn.Module:
        """Return a policy that it can measure; always the same one."""
        return runs.TinyPolicy()


def _policy(subject: Subject) -> Any:
    with forked_rng(0):
        return subject.suite.make_policy().eval()


def _measured(subject: Subject, function: Any, policy: nn.Module) -> Any:
    """Measure as the loop does: without gradients, in random states of the run's seed."""
    with forked_rng(0), torch.no_grad():
        try:
            return function(policy)
        except (SimScaleError, KeyError, RuntimeError) as error:
            if subject.suite.is_generic and not isinstance(error, runs.PlannedError):
                raise NotApplicable(f"it cannot measure without settings: {error}") from error
            raise


def _tried(subject: Subject, function: Any, policy: nn.Module) -> Any:
    try:
        return _measured(subject, function, policy)
    except Exception as error:
        raise NotApplicable("it does not measure: see the check 'gives_numbers'") from error


def _numbers(found: Mapping[str, Any]) -> dict[str, Any]:
    table: dict[str, Any] = {
        k: (v.total, v.count) if isinstance(v, Mean) else v for k, v in found.items()
    }
    return {k: v.tobytes() if hasattr(v, "tobytes") else v for k, v in table.items()}
