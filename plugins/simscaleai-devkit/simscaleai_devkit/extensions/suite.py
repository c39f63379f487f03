"""Checks of extensions: sound hooks, exact resume, no side effects; and the suite with them."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import ClassVar

from simscaleai_core.checkpoint.serialisation import to_serialisable
from simscaleai_core.host.validation import implementations, listener_faults
from simscaleai_devkit.checks import (
    NotApplicable,
    checks_in,
    expect,
    expect_none,
    must_work,
    raised_by,
    text_of,
)
from simscaleai_devkit.extensions.driver import (
    FailingJudge,
    OneOfTwo,
    RandomStates,
    States,
    changed_metrics,
    error_of_failing_run,
    evaluated,
    fields_of,
    saved,
    started,
    train_step,
    train_with,
)
from simscaleai_devkit.subject import Subject
from simscaleai_devkit.suite import Suite
from simscaleai_devkit.support.listeners import PlannedError
from simscaleai_devkit.support.log import collected_warnings
from simscaleai_devkit.support.process import process_unchanged, settings_restored
from simscaleai_devkit.support.runs import loader
from simscaleai_devkit.support.trees import expect_equal


def check_hooks_are_sound(subject: Subject) -> None:
    """It listens to at least one event; every hook is marked, known and takes what it is given."""
    kind = type(subject.build())
    members = {n: getattr(kind, n) for n in dir(kind)}
    faults = listener_faults(members)
    hooks = [hook for hook, _ in implementations(members)]
    expect(
        hooks and not faults,
        "its hooks",
        expected="at least one, and no fault",
        found="; ".join(faults) or "none",
        remedy="Mark methods with hooks such as @simscale_on_step_end; see `simscale hooks list`.",
    )


def check_trains_to_the_end(subject: Subject) -> None:
    """A run with it, with evaluations and checkpoints, ends well; nothing isolated fails."""
    with collected_warnings(containing="failed") as failures:
        train_with(subject, "run")
    expect_none(failures[:1], "failures in a run with it", remedy="See the log for the traceback.")


def check_state_is_plain(subject: Subject) -> None:
    """What it has saved with the run fits a checkpoint."""
    states = States()
    with suppress(NotApplicable):
        train_with(subject, "run", listeners=[states])
    for name, state in states.found.items():
        fact, expected = f"the state {name!r}", "tensors and plain containers"
        with must_work(fact, expected=expected, remedy="Convert it in state_dict()."):
            to_serialisable({name: state})


def check_resume_is_exact(subject: Subject) -> None:
    """Training 10 steps equals training 5, saving, loading and training 5 more, to the last bit.

    The metrics that are logged are the same too, but for times.
    """
    fields = {**fields_of(subject), "eval_every": 5, "loggers": ("builtin/jsonl",)}
    whole = train_with(subject, "whole", **fields)
    remedy = "Have what steps change saved: run.register_state(name, self)."
    subject.expect_exact_resume(whole, fields, at=5, remedy=remedy, held_out=True)
    changed = changed_metrics(subject, "second")
    if changed:  # what differs between two whole runs is measured, such as times
        train_with(subject, "again", **fields)
        measured = changed_metrics(subject, "again")
        changed = {k: v for k, v in changed.items() if k not in measured}
    fact, expected = "metrics after a run was resumed", "those of a run that was not"
    expect_none(list(changed.values()), fact, expected=expected, remedy=remedy)


def check_batch_is_not_changed(subject: Subject) -> None:
    """`simscale_transform_batch` returns a new batch and leaves the one it is given alone."""
    run = started(subject)
    if not run.events.transform_batch:
        raise NotApplicable("it transforms no batch")
    batch = next(iter(loader()))
    kept = copy.deepcopy(batch)
    found = run.events.transform_batch[0](run, batch)
    fact, kind = "what transform_batch returned", type(found).__name__
    is_batch, remedy = isinstance(found, Mapping), "Return {**batch, ...}."
    expect(is_batch, fact, expected="a batch", found=kind, remedy=remedy)
    fact, remedy = "the batch that it was given", "Build a new dict; use out-of-place operations."
    expect_equal(batch, kept, fact, expected="as before", remedy=remedy)


def check_random_state_is_left_alone(subject: Subject) -> None:
    """Its hooks draw no global random numbers, which would change what dropout draws.

    A transformation of batches may draw: it is part of training.
    """
    before, after = RandomStates(), RandomStates()
    run = started(subject, before=before, after=after)
    for _ in range(6):
        train_step(run)
        run.events.metrics(run, {"train/loss": 0.5})
        evaluated(run)
    pairs = zip(before.found, after.found, strict=True)
    drawn = sorted({one[0] for one, other in pairs if one != other})
    fact = "events in which its hooks draw from the global random generators"
    expect_none(drawn, fact, remedy="Draw from a torch.Generator of your own.")


def check_evaluation_leaves_the_weights(subject: Subject) -> None:
    """Evaluations, also one that raises, and logging leave the weights as they were."""
    judge = FailingJudge()
    run = started(subject, after=judge)
    for _ in range(3):
        train_step(run)
    cases: dict[str, Callable[[], object]] = {
        "an evaluation": lambda: evaluated(run),
        "an evaluation that raises": lambda: judge.fail_in(lambda: evaluated(run)),
        "a logging window": lambda: run.events.metrics(run, {"train/loss": 0.5}),
    }
    for case, call in cases.items():
        before = copy.deepcopy(dict(run.policy.state_dict()))
        error, after = raised_by(call), dict(run.policy.state_dict())
        remedy = (
            "Change weights within simscale_eval_context only, and put them back in a `finally`."
        )
        expect_equal(after, before, f"weights after {case}", expected="as before", remedy=remedy)
        wanted = PlannedError if case.endswith("raises") else type(None)
        fact, expected = f"the error of {case}", "its own" if error is None else "no other"
        is_wanted, found = isinstance(error, wanted), text_of(error)
        expect(is_wanted, fact, expected=expected, found=found, remedy="Let errors through.")


def check_failed_run_is_cleaned_up(subject: Subject) -> None:
    """In a run that fails, the error comes through and its last hooks do not fail too."""
    remedy = "In simscale_on_run_end, guard against what is not there yet."
    with collected_warnings(containing="failed") as failures:
        error = error_of_failing_run(subject)
    expect_none(
        [*([] if isinstance(error, PlannedError) else [repr(error)]), *failures],
        "a run that fails at step 3",
        expected="its own error, and no other",
        remedy=remedy,
    )


def check_process_is_left_alone(subject: Subject) -> None:
    """After a run, settings, folder, environment, logging and threads are as before."""
    with settings_restored():  # imports that come late are not its doing
        train_with(subject, "first")
    fact, remedy = "the process after a run with it", "Undo it in simscale_on_run_end."
    with process_unchanged(fact, remedy=remedy, ignore_random=True, check_stdout=True):
        train_with(subject, "second")


def check_ranks_communicate_alike(subject: Subject) -> None:
    """Every rank takes part in every exchange between ranks; one that does not hangs the others."""
    ranks = []
    for rank in (0, 1):
        strategy = OneOfTwo(subject.config(), rank)
        run = started(subject, strategy=strategy)
        for _ in range(3):
            train_step(run)
            strategy.event = "metrics"
            run.events.metrics(run, {"train/loss": 0.5})
            strategy.event = "evaluation"
            evaluated(run)
        strategy.event = "checkpoint_saved"
        if rank == 0:
            run.events.checkpoint_saved(run, saved(subject))
        strategy.event = "run_end"
        run.events.run_end(run, "done")
        ranks.append(strategy.calls)
    one, two = (Counter(calls) for calls in ranks)
    alone = [f"{call} on rank 0 alone" for call in one - two]
    alone += [f"{call} on rank 1 alone" for call in two - one]
    remedy = "Call reduce, gather and broadcast on every rank; checkpoint_saved is for rank 0 only."
    expect_none(alone, "exchanges between two ranks", expected="both in each", remedy=remedy)


class ExtensionSuite(Suite):
    """Checks of an extension."""

    kind: ClassVar[str] = "extension"
    checks = checks_in(globals())
