"""Checks of extensions: sound hooks, exact resume, no side effects; and the suite with them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

from simscaleai_core.builtin.fp32 import Float32
from simscaleai_core.builtin.single import SingleDevice
from simscaleai_core.checkpoint.serialisation import to_serialisable
from simscaleai_core.errors import ConfigError, PluginError
from simscaleai_core.host.components import maker
from simscaleai_core.host.events import compile_events
from simscaleai_core.host.validation import MARKER, listener_faults
from simscaleai_core.plugin import hookimpl
from simscaleai_core.run.evaluation import evaluate
from simscaleai_core.run.events import Events
from simscaleai_core.run.state import Run
from simscaleai_core.run.train_step import Supervised
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
from simscaleai_devkit.support.listeners import FailAt, PlannedError
from simscaleai_devkit.support.log import collected_warnings
from simscaleai_devkit.support.policies import TinyPolicy
from simscaleai_devkit.support.process import process_unchanged, random_states
from simscaleai_devkit.support.runs import FinishedRun, loader, logged_curves
from simscaleai_devkit.support.trees import expect_equal


def check_hooks_are_sound(subject: Subject) -> None:
    """It listens to at least one event; every hook is marked, known and takes what it is given."""
    kind = type(subject.build())
    members = {n: getattr(kind, n) for n in dir(kind) if n.startswith("simscale_")}
    faults = listener_faults(members)
    hooks = [n for n, f in members.items() if hasattr(f, MARKER)]
    expect(
        hooks and not faults,
        "its hooks",
        expected="at least one, and no fault",
        found="; ".join(faults) or "none",
        remedy="Mark methods with @hookimpl; see `simscale hooks list`.",
    )


def check_trains_to_the_end(subject: Subject) -> None:
    """A run with it, with evaluations and checkpoints, ends well; nothing isolated fails."""
    with collected_warnings(containing="failed") as failures:
        _train(subject, "run")
    expect_none(failures[:1], "failures in a run with it", remedy="See the log for the traceback.")


def check_state_is_plain(subject: Subject) -> None:
    """What it has saved with the run fits a checkpoint."""
    states = _States()
    with suppress(NotApplicable):
        _train(subject, "run", listeners=[states])
    for name, state in states.found.items():
        fact, expected = f"the state {name!r}", "tensors and plain containers"
        with must_work(fact, expected=expected, remedy="Convert it in state_dict()."):
            to_serialisable({name: state})


def check_resume_is_exact(subject: Subject) -> None:
    """Training 10 steps equals training 5, saving, loading and training 5 more, to the last bit.

    The metrics that are logged are the same too, but for times.
    """
    fields = {**_fields(subject), "eval_every": 5, "loggers": ("builtin/jsonl",)}
    whole = _train(subject, "whole", **fields)
    remedy = "Have what steps change saved: run.register_state(name, self)."
    subject.expect_exact_resume(whole, fields, at=5, remedy=remedy, held_out=True)
    changed = _changed_metrics(subject, "second")
    if changed:  # what differs between two whole runs is measured, such as times
        _train(subject, "again", **fields)
        measured = _changed_metrics(subject, "again")
        changed = {k: v for k, v in changed.items() if k not in measured}
    fact, expected = "metrics after a run was resumed", "those of a run that was not"
    expect_none(list(changed.values()), fact, expected=expected, remedy=remedy)


def check_batch_is_not_changed(subject: Subject) -> None:
    """`simscale_transform_batch` returns a new batch and leaves the one it is given alone."""
    run = _started(subject)
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
    before, after = _RandomStates(), _RandomStates()
    run = _started(subject, before=before, after=after)
    for _ in range(6):
        _train_step(run)
        run.events.metrics(run, {"train/loss": 0.5})
        _evaluate(run)
    pairs = zip(before.found, after.found, strict=True)
    drawn = sorted({one[0] for one, other in pairs if one != other})
    fact = "events in which its hooks draw from the global random generators"
    expect_none(drawn, fact, remedy="Draw from a torch.Generator of your own.")


def check_evaluation_leaves_the_weights(subject: Subject) -> None:
    """Evaluations, also one that raises, and logging leave the weights as they were."""
    judge = _FailingJudge()
    run = _started(subject, after=judge)
    for _ in range(3):
        _train_step(run)
    cases: dict[str, Callable[[], object]] = {
        "an evaluation": lambda: _evaluate(run),
        "an evaluation that raises": lambda: judge.fail_in(lambda: _evaluate(run)),
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
        error = _error_of_failing_run(subject)
    expect_none(
        [*([] if isinstance(error, PlannedError) else [repr(error)]), *failures],
        "a run that fails at step 3",
        expected="its own error, and no other",
        remedy=remedy,
    )


def check_process_is_left_alone(subject: Subject) -> None:
    """After a run, settings, folder, environment, logging and threads are as before."""
    _train(subject, "first")
    fact, remedy = "the process after a run with it", "Undo it in simscale_on_run_end."
    with process_unchanged(fact, remedy=remedy, ignore_random=True, check_stdout=True):
        _train(subject, "second")


class ExtensionSuite(Suite):
    """Checks of an extension."""

    kind: ClassVar[str] = "extension"
    checks = checks_in(globals())


class _States:
    """Keeps the states that are registered."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    @hookimpl
    def simscale_on_run_end(self, run: Run) -> None:
        self.found = {n: s.state_dict() for n, s in run.states.items() if n != "loop"}


class _RandomStates:
    """Keeps the global random states at each event."""

    def __init__(self) -> None:
        self.found: list[tuple[str, dict[str, Any]]] = []

    def _keep(self, event: str) -> None:
        self.found.append((event, random_states()))

    @hookimpl
    def simscale_on_grads_ready(self) -> None:
        self._keep("grads_ready")

    @hookimpl
    def simscale_on_step_end(self) -> None:
        self._keep("step_end")

    @hookimpl
    def simscale_on_metrics(self) -> None:
        self._keep("metrics")

    @hookimpl
    @contextmanager
    def simscale_eval_context(self) -> Iterator[None]:
        self._keep("the beginning of an evaluation")
        yield
        self._keep("the end of an evaluation")

    @hookimpl
    def simscale_on_eval_end(self) -> None:
        self._keep("eval_end")


class _FailingJudge:
    """A listener that ends an evaluation when it is told to."""

    def __init__(self) -> None:
        self._fails = False

    def fail_in(self, call: Callable[[], object]) -> None:
        """Fail in what a call evaluates."""
        self._fails = True
        try:
            call()
        finally:
            self._fails = False

    @hookimpl
    def simscale_on_eval_end(self) -> None:
        if self._fails:
            raise PlannedError("planned in an evaluation")


def _changed_metrics(subject: Subject, run: str) -> dict[tuple[str, int], str]:
    """Return what a run logged otherwise than the whole run did after step 5, in words."""
    wanted, found = (
        {(name, step): v for name, curve in curves.items() for step, v in curve if step > 5}
        for curves in (logged_curves(subject.folder / name) for name in ("whole", run))
    )
    return {
        (name, step): f"{name} at step {step}: {found.get((name, step), 'nothing')}, not {value}"
        for (name, step), value in wanted.items()
        if repr(found.get((name, step))) != repr(value) and not name.startswith("perf/")
    }


def _fields(subject: Subject) -> dict[str, Any]:
    return {"extensions": (subject.component.id,), "max_steps": 10}


def _train(subject: Subject, folder: str, *, listeners: Any = (), **fields: Any) -> FinishedRun:
    with _skipped_unless_it_runs(subject):
        given = {**_fields(subject), **fields}
        return subject.train(folder, given, listeners=listeners, held_out=True)


def _error_of_failing_run(subject: Subject) -> Exception | None:
    try:
        _train(subject, "run", listeners=[FailAt(3)])
    except NotApplicable:
        raise
    except Exception as error:  # noqa: BLE001 - the check judges it
        return error
    return None


@contextmanager
def _skipped_unless_it_runs(subject: Subject) -> Iterator[None]:
    """Skip the check if a run is refused for a reason that another check names."""
    try:
        with subject.skip_without_settings("it cannot run"):
            yield
    except PluginError as error:
        raise NotApplicable("see the check 'hooks_are_sound'") from error
    except ConfigError as error:
        if "a checkpoint cannot hold" in str(error):
            raise NotApplicable("see the check 'state_is_plain'") from error
        raise


def _compiled(listeners: list[tuple[str, Any]]) -> Events:
    try:
        return compile_events(listeners)
    except PluginError as error:
        raise NotApplicable("see the check 'hooks_are_sound'") from error


def _started(subject: Subject, *, before: object = None, after: object = None) -> Run:
    """Return a run that has begun, with listeners before and after the one under test."""
    config, policy = subject.config(), TinyPolicy()
    listeners = [("before", before), ("under test", subject.build()), ("after", after)]
    run = Run(
        config=config,
        policy=policy,
        precision=Float32(config),
        strategy=SingleDevice(config),
        build_optimizer=maker(subject.host, "optimizer", config.optimizer, config),
        build_schedule=maker(subject.host, "schedule", config.schedule, config),
        events=_compiled([(name, one) for name, one in listeners if one is not None]),
    )
    with left_to("trains_to_the_end", "it does not start"):
        run.events.run_setup(run)
        run.prepare()
        run.events.run_start(run)
    return run


def _train_step(run: Run) -> None:
    """Train one step and fire its events."""
    with left_to("trains_to_the_end", "it does not train"):
        result = Supervised(run.config).update(run, next(iter(loader())))
        run.counters.step += 1
        for hook in run.events.step_end:
            hook(run, result.out)


def _evaluate(run: Run) -> None:
    """Evaluate as a run does."""
    evaluate(run, [("held_out_loss", lambda policy: {"loss": 0.5})])  # noqa: ARG005 - the contract
