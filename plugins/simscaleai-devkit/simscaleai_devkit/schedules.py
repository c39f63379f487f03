"""Checks of learning-rate schedules: sane rates, steps, state, exact and longer resume."""

from __future__ import annotations

import copy
import math
import warnings
from typing import Any, ClassVar

import torch
from torch.optim.lr_scheduler import LRScheduler

from simscaleai_core.checkpoint.serialisation import to_serialisable
from simscaleai_core.config import TrainConfig
from simscaleai_core.host.components import maker
from simscaleai_core.seeding import seed_everything
from simscaleai_devkit.agreement import expect_two_ranks_agree
from simscaleai_devkit.checks import checks_in, expect, left_to, must_work, slow
from simscaleai_devkit.subject import Subject
from simscaleai_devkit.suite import Suite
from simscaleai_devkit.support.policies import TinyPolicy
from simscaleai_devkit.support.process import expect_left_alone
from simscaleai_devkit.support.trees import expect_equal
from simscaleai_devkit.support.trials import expect_no_draws, plain_numbers

_LENGTHS = ((12, 3), (12, 0), (4, 6), (6, 6), (1, 0), (1, 1))  # max_steps, warmup_steps [steps]
_OPTIMIZERS = ("builtin/adamw", "builtin/sgd")
_ROUNDING = 1e-6
_OWN = 0.25  # rate of the second group, times the first's


def check_builds(subject: Subject) -> None:
    """It is built for every optimiser of the core, stands at update 0, and steps."""
    for name in _OPTIMIZERS:
        remedy = "Use nothing of an optimiser but the groups' lr."
        with must_work(f"a schedule of {name}", remedy=remedy):
            optimizer, schedule = _made(subject, _config(subject), optimizer=name)
            begins_at = getattr(schedule, "last_epoch", None)
            _step(optimizer, schedule)
        for at, found in ((0, begins_at), (1, getattr(schedule, "last_epoch", None))):
            expect(
                found == at,
                f"last_epoch after {at} steps, of {name}",
                expected=at,
                found=found,
                remedy="Call super().__init__(optimizer), and super().step() without an epoch.",
            )


def check_rates_are_sane(subject: Subject) -> None:
    """Every rate is finite, not negative and at most the peak, in runs of every length.

    A run that is longer than its warm-up trains: some rate is above 0.
    """
    for max_steps, warmup_steps in _LENGTHS:
        config = _config(subject, max_steps=max_steps, warmup_steps=warmup_steps)
        found = [rates[0] for rates in _curve(subject, config)]
        fact = f"the rates of a run with max_steps={max_steps}, warmup_steps={warmup_steps}"
        sane = all(math.isfinite(r) and 0 <= r <= config.lr * (1 + _ROUNDING) for r in found)
        trains = max_steps <= warmup_steps or max(found[:-1], default=0) > 0
        expect(
            sane and trains,
            fact,
            expected=f"numbers from 0 to lr={config.lr:g}, not all of them 0",
            found=plain_numbers(found),
            remedy="Clamp the factor to [0, 1], also at the last step and without a warm-up.",
        )


def check_group_keeps_its_own_peak(subject: Subject) -> None:
    """A group with a rate of its own is never above it."""
    config = _config(subject)
    highest = max(rates[1] for rates in _curve(subject, config))
    expect(
        highest <= config.lr * _OWN * (1 + _ROUNDING),
        "the largest rate of a group with a rate of its own",
        expected=f"at most that rate, {config.lr * _OWN:g}",
        found=f"{highest:g}",
        remedy="Scale each group's own base_lrs.",
    )


def check_advances_by_step_alone(subject: Subject) -> None:
    """The rate depends on the calls of `step`: not on time, chance or the optimiser's updates."""
    config = _config(subject)
    seed_everything(1)
    wanted = _curve(subject, config)
    seed_everything(2)
    optimizer, schedule = _ready(subject, config)
    found = [_rates(optimizer)]
    for _ in range(config.max_steps):
        for _ in range(3):
            optimizer.step()
        _step(optimizer, schedule)
        found.append(_rates(optimizer))
    remedy = "Compute the rate from self.last_epoch."
    fact, expected = "rates of a schedule that is stepped alike", "the same rates"
    expect_equal(found, wanted, fact, expected=expected, remedy=remedy)


def check_state_is_plain(subject: Subject) -> None:
    """Its state fits a checkpoint."""
    optimizer, schedule = _ready(subject, _config(subject))
    _step(optimizer, schedule)
    fact, expected = "its state", "tensors, numbers, text and plain containers"
    remedy = "Leave functions and objects out in state_dict()."
    with must_work(fact, expected=expected, remedy=remedy):
        to_serialisable(schedule.state_dict())


def check_state_is_restored(subject: Subject) -> None:
    """With its state loaded, another one has the same state and goes on with the same rates."""
    with left_to("state_is_plain"):
        check_state_is_plain(subject)
    with left_to("advances_by_step_alone"):
        check_advances_by_step_alone(subject)
    config = _config(subject)
    for steps in (1, 5, config.max_steps - 1):
        optimizer, schedule = _ready(subject, config)
        for _ in range(steps):
            _step(optimizer, schedule)
        state = copy.deepcopy(schedule.state_dict())
        other_optimizer, other = _ready(subject, config)
        other_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        remedy = "Return in state_dict all that rates depend on, and take it in load_state_dict."
        with must_work("load_state_dict()", remedy=remedy):
            other.load_state_dict(copy.deepcopy(state))
        again = other.state_dict()
        expect_equal(again, state, f"its state, loaded after {steps} steps", remedy=remedy)
        curves = [[_stepped(*pair) for _ in range(config.max_steps - steps)]
                  for pair in ((optimizer, schedule), (other_optimizer, other))]  # fmt: skip
        fact = f"rates that follow a state that was loaded after {steps} steps"
        expect_equal(curves[1], curves[0], fact, remedy=remedy)


def check_resume_is_exact(subject: Subject) -> None:
    """Training 10 steps equals training 5, saving, loading and training 5 more, to the last bit."""
    with left_to("state_is_restored"):
        check_state_is_restored(subject)
    fields = {"schedule": subject.component.id}
    remedy = "Return in state_dict all that rates depend on."
    subject.expect_resumable(fields, at=5, remedy=remedy)


def check_goes_on_to_more_steps(subject: Subject) -> None:
    """A run that is resumed with more `max_steps` ends where one of that length from the start is.

    A fresh schedule is stepped to where the run stands.
    """
    with left_to("state_is_restored"):
        check_state_is_restored(subject)
    fields: dict[str, Any] = {"schedule": subject.component.id}
    with must_work("a run that goes on to more steps", remedy="See the check 'state_is_restored'."):
        short = subject.train("short", {**fields, "max_steps": 6})
        more = {**fields, "max_steps": 10, "resume_from": str(short.checkpoint)}
        found = subject.train("more", more).tree()
    optimizer, schedule = _ready(subject, subject.config(max_steps=10))
    for _ in range(10):
        _step(optimizer, schedule)
    groups = found["optimizer_state_dict"]["param_groups"]
    expect_equal(
        [groups[0]["lr"], found["scheduler_state_dict"]["last_epoch"]],
        [_rates(optimizer)[0], 10],
        "rate and last_epoch of a run that went on from 6 to 10 steps",
        expected="those of a schedule of 10 steps",
        remedy="Compute the rate from last_epoch and config.max_steps alone.",
    )


def check_random_state_is_left_alone(subject: Subject) -> None:
    """Building and stepping draw no global random numbers, which differ between ranks."""
    made = _ready(subject, _config(subject))
    calls = {
        "building it": lambda: _ready(subject, _config(subject)),
        "a step": lambda: _step(*made),
    }
    expect_no_draws(calls, remedy="Compute the rate from self.last_epoch.")


def check_process_is_left_alone(subject: Subject) -> None:
    """Settings, functions of torch, environment and threads are as before, after steps."""
    fact, remedy = "the process after steps", "Leave settings to the run."
    expect_left_alone(lambda: _curve(subject, _config(subject)), fact, remedy=remedy)


@slow
def check_two_ranks_agree(subject: Subject) -> None:
    """Two processes end with equal weights, which are those of one process with both batches."""
    fields = {"schedule": subject.component.id}
    remedy = "Compute the rate from self.last_epoch."
    expect_two_ranks_agree(subject, fields, remedy=remedy, is_one=True)


class ScheduleSuite(Suite):
    """Checks of a learning-rate schedule."""

    kind: ClassVar[str] = "schedule"
    checks = checks_in(globals())


def _config(subject: Subject, **fields: Any) -> TrainConfig:
    return subject.config(**{"max_steps": 12, "warmup_steps": 3, **fields})


def _made(
    subject: Subject, config: TrainConfig, *, optimizer: str = "builtin/sgd"
) -> tuple[torch.optim.Optimizer, LRScheduler]:
    """Return an optimiser with two groups, one of a rate of its own, and a schedule of it."""
    first, *rest = TinyPolicy().parameters()
    groups = [{"params": rest}, {"params": [first], "lr": config.lr * _OWN}]
    with subject.skip_without_settings("it cannot be built"):
        made = maker(subject.host, "optimizer", optimizer, config)(groups)
        schedule = maker(subject.host, "schedule", subject.component.id, config)(made)
        return made, schedule


def _ready(subject: Subject, config: TrainConfig) -> tuple[torch.optim.Optimizer, LRScheduler]:
    with left_to("builds"):
        check_builds(subject)
        return _made(subject, config)


def _step(optimizer: torch.optim.Optimizer, schedule: LRScheduler) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the order of the two
        optimizer.step()
        schedule.step()


def _stepped(optimizer: torch.optim.Optimizer, schedule: LRScheduler) -> list[float]:
    _step(optimizer, schedule)
    return _rates(optimizer)


def _rates(optimizer: torch.optim.Optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


def _curve(subject: Subject, config: TrainConfig) -> list[list[float]]:
    """Return the rates of both groups before each step and after the last."""
    made = _ready(subject, config)
    return [_rates(made[0]), *(_stepped(*made) for _ in range(config.max_steps))]
