"""Checks of extensions: sound hooks, exact resume, no side effects; and the suite with them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

import torch

from simscaleai_core.builtin.fp32 import Float32
from simscaleai_core.builtin.single import SingleDevice
from simscaleai_core.checkpoint.serialisation import to_serialisable
from simscaleai_core.errors import ConfigError, PluginError
from simscaleai_core.host.events import compile_events
from simscaleai_core.host.validation import MARKER, listener_faults
from simscaleai_core.plugin import hookimpl
from simscaleai_core.run.events import Events
from simscaleai_core.run.state import Run
from simscaleai_devkit.checks import (
    NotApplicable,
    checks_in,
    expect,
    expect_none,
    left_to,
    must_work,
)
from simscaleai_devkit.subject import Subject
from simscaleai_devkit.suite import Suite
from simscaleai_devkit.support.listeners import FailAt, PlannedError
from simscaleai_devkit.support.log import collected_warnings
from simscaleai_devkit.support.policies import TinyPolicy
from simscaleai_devkit.support.process import process_unchanged
from simscaleai_devkit.support.runs import FinishedRun, loader
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
    """Training 10 steps equals training 5, saving, loading and training 5 more, to the last bit."""
    whole = _train(subject, "whole", eval_every=5)
    fields = {**_fields(subject), "eval_every": 5}
    remedy = "Have what steps change saved: run.register_state(name, self)."
    subject.expect_exact_resume(whole, fields, at=5, remedy=remedy, held_out=True)


def check_batch_is_not_changed(subject: Subject) -> None:
    """`simscale_transform_batch` returns a new batch and leaves the one it is given alone."""
    events = _compiled([("under test", subject.build())])
    if not events.transform_batch:
        raise NotApplicable("it transforms no batch")
    run = _bare_run(subject)
    _set_up(events, run)
    batch = next(iter(loader()))
    kept = copy.deepcopy(batch)
    found = events.transform_batch[0](run, batch)
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
    events = _compiled([("before", before), ("under test", subject.build()), ("after", after)])
    run = _bare_run(subject)
    _set_up(events, run)
    out = {"loss": torch.zeros(())}
    for _ in range(6):
        run.counters.step += 1
        for hook in events.step_end:
            hook(run, out)
        events.metrics(run, {"train/loss": 0.5})
        events.eval_end(run, "held_out_loss", {"loss": 0.5})
    is_same, fact = before.found == after.found, "the random state before and after its hooks"
    remedy = "Draw from a torch.Generator of your own."
    expect(is_same, fact, expected="equality", found="a difference", remedy=remedy)


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
    """Keeps torch's random state at each event."""

    def __init__(self) -> None:
        self.found: list[int] = []

    def _keep(self) -> None:
        self.found.append(hash(torch.get_rng_state().numpy().tobytes()))

    @hookimpl
    def simscale_on_step_end(self) -> None:
        self._keep()

    @hookimpl
    def simscale_on_metrics(self) -> None:
        self._keep()

    @hookimpl
    def simscale_on_eval_end(self) -> None:
        self._keep()


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


def _bare_run(subject: Subject) -> Run:
    config = subject.config()
    return Run(
        config=config,
        policy=TinyPolicy(),
        precision=Float32(config),
        strategy=SingleDevice(config),
    )


def _set_up(events: Events, run: Run) -> None:
    with left_to("trains_to_the_end", "it does not start"):
        events.run_setup(run)
        run.prepare()
        events.run_start(run)
