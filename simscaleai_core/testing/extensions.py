"""Checks of extensions: sound hooks, exact resume, and nothing left behind."""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from simscaleai_core.builtin.single import SingleDevice
from simscaleai_core.errors import ConfigError, PluginError
from simscaleai_core.host import compile_events
from simscaleai_core.host.validation import MARKER, listener_faults
from simscaleai_core.mechanisms import Events
from simscaleai_core.plain import plain_tree
from simscaleai_core.plugin import hookimpl
from simscaleai_core.state import Run
from simscaleai_core.testing import runs
from simscaleai_core.testing.checks import CheckFailed, NotApplicable, checks_in, expect, text_of
from simscaleai_core.testing.process import captured_stdout, process_state, state_changes
from simscaleai_core.testing.subject import Subject
from simscaleai_core.testing.suite import Suite
from simscaleai_core.testing.trees import tree_differences


def check_hooks_are_sound(subject: Subject) -> None:
    """It listens to at least one event; every hook is marked, known and takes what it is given."""
    kind = type(subject.build())
    members = {n: getattr(kind, n) for n in dir(kind) if n.startswith("simscale_")}
    faults = listener_faults(members)
    heard = [n for n, f in members.items() if hasattr(f, MARKER)]
    expect(
        heard and not faults, "its hooks", expected="at least one, and no fault",
        found="; ".join(faults) or "none",
        remedy="Mark methods with @hookimpl; see `simscale hooks list`.",
    )  # fmt: skip


def check_trains_to_the_end(subject: Subject) -> None:
    """A run with it, with evaluations and checkpoints, ends well; nothing isolated fails."""
    failures: list[str] = []
    handler = _Collects(failures)
    logger = logging.getLogger("simscaleai")
    logger.addHandler(handler)
    try:
        _train(subject, "run")
    finally:
        logger.removeHandler(handler)
    expect(
        not failures, "a run with it", expected="no failure", found=failures[:1],
        remedy="See the log for the traceback.",
    )  # fmt: skip


def check_state_is_plain(subject: Subject) -> None:
    """What it has saved with the run fits a checkpoint."""
    watcher = _Watches()
    with contextlib.suppress(NotApplicable):
        _train(subject, "run", listeners=[watcher])
    for name, state in watcher.states.items():
        try:
            plain_tree({name: state})
        except Exception as error:
            raise CheckFailed(
                f"the state {name!r}: expected tensors and plain containers, got {text_of(error)}. "
                "Convert it in state_dict()."
            ) from error


def check_resume_is_exact(subject: Subject) -> None:
    """Training 10 steps equals training 5, saving, loading and training 5 more, to the last bit."""
    fields = _fields(subject)
    wanted = runs.final_tree(subject, _train(subject, "whole", eval_every=5))
    try:
        found = runs.interrupted_tree(
            subject, subject.folder, at=5, fields={**fields, "eval_every": 5}, held_out=True
        )
    except Exception as error:
        raise CheckFailed(
            f"a run that is resumed with it: expected to work, got {text_of(error)}. Take back in "
            "load_state_dict what state_dict gives."
        ) from error
    differences = tree_differences(wanted, found)
    expect(
        not differences, "a run that was resumed differs from one that was not",
        expected="equality to the last bit", found="; ".join(differences[:3]),
        remedy="Have what steps change saved: run.register_state(name, self).",
    )  # fmt: skip


def check_batch_is_not_changed(subject: Subject) -> None:
    """`simscale_transform_batch` returns a new batch and leaves the one it is given alone."""
    events = _compiled([("under test", subject.build())])
    if not events.transform_batch:
        raise NotApplicable("it transforms no batch")
    run = _bare_run(subject)
    _set_up(events, run)
    batch = next(iter(runs.loader()))
    kept = copy.deepcopy(batch)
    found = events.transform_batch[0](run, batch)
    expect(
        isinstance(found, Mapping), "what transform_batch returned", expected="a batch",
        found=type(found).__name__, remedy="Return {**batch, ...}.",
    )  # fmt: skip
    differences = tree_differences(kept, batch)
    expect(
        not differences, "the batch that it was given", expected="as before",
        found="; ".join(differences[:2]), remedy="Build a new dict; use out-of-place operations.",
    )  # fmt: skip


def check_random_state_is_left_alone(subject: Subject) -> None:
    """Its hooks draw no global random numbers, which would change what dropout draws.

    A transformation of batches may draw: it is part of training.
    """
    before, after = _Notes(), _Notes()
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
    expect(
        before.states == after.states, "the random state before and after its hooks",
        expected="equality", found="a difference",
        remedy="Draw from a torch.Generator of your own.",
    )  # fmt: skip


def check_failed_run_is_cleaned_up(subject: Subject) -> None:
    """In a run that fails, the error comes through and its last hooks do not fail too."""
    failures: list[str] = []
    handler = _Collects(failures)
    logger = logging.getLogger("simscaleai")
    logger.addHandler(handler)
    try:
        _train(subject, "run", listeners=[runs.Keeper(fail_at=3)])
    except runs.PlannedError:
        said = "the planned error"
    except NotApplicable:
        raise
    except Exception as error:  # noqa: BLE001 - said below
        said = text_of(error)
    else:
        said = "no error"
    finally:
        logger.removeHandler(handler)
    expect(
        said == "the planned error" and not failures, "a run that fails at step 3",
        expected="its own error, and no other", found="; ".join([said, *failures]),
        remedy="In simscale_on_run_end, guard against what is not there yet.",
    )  # fmt: skip


def check_process_is_left_alone(subject: Subject) -> None:
    """After a run, settings, folder, environment, logging and threads are as before."""
    _train(subject, "first")
    before = process_state()
    with captured_stdout() as printed:
        _train(subject, "second")
    changes = [c for c in state_changes(before, process_state()) if "random state" not in c]
    changes += ["standard output"] if printed() else []
    expect(
        not changes, "the process after a run with it", expected="no change",
        found="; ".join(changes), remedy="Put it back in simscale_on_run_end.",
    )  # fmt: skip


class ExtensionSuite(Suite):
    """Checks of an extension."""

    kind: ClassVar[str] = "extension"
    checks = checks_in(globals())


class _Collects(logging.Handler):
    """Collects what is said of listeners that failed."""

    def __init__(self, found: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._found = found

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if "failed" in message:
            self._found.append(message)


class _Watches:
    """Keeps the states that are registered."""

    def __init__(self) -> None:
        self.states: dict[str, Any] = {}

    @hookimpl
    def simscale_on_run_end(self, run: Run) -> None:
        self.states = {n: s.state_dict() for n, s in run.states.items() if n != "loop"}


class _Notes:
    """Notes torch's random state at each event."""

    def __init__(self) -> None:
        self.states: list[int] = []

    def _note(self) -> None:
        self.states.append(hash(torch.get_rng_state().numpy().tobytes()))

    @hookimpl
    def simscale_on_step_end(self) -> None:
        self._note()

    @hookimpl
    def simscale_on_metrics(self) -> None:
        self._note()

    @hookimpl
    def simscale_on_eval_end(self) -> None:
        self._note()


def _fields(subject: Subject) -> dict[str, Any]:
    return {"extensions": (subject.component.id,), "max_steps": 10}


def _train(subject: Subject, folder: str, *, listeners: Any = (), **fields: Any) -> Any:
    config = subject.config(subject.folder / folder, **{**_fields(subject), **fields})
    return _tried(subject, config, listeners)


def _tried(subject: Subject, config: Any, listeners: Any) -> Any:
    try:
        return runs.train(subject, config, listeners=listeners, held_out=True)
    except PluginError as error:
        raise NotApplicable("see the check 'hooks_are_sound'") from error
    except ConfigError as error:
        if "a checkpoint cannot hold" in str(error):
            raise NotApplicable("see the check 'state_is_plain'") from error
        if subject.suite.is_generic:
            raise NotApplicable(f"it cannot run without settings: {error}") from error
        raise


def _compiled(listeners: list[tuple[str, Any]]) -> Events:
    try:
        return compile_events(listeners)
    except PluginError as error:
        raise NotApplicable("see the check 'hooks_are_sound'") from error


def _bare_run(subject: Subject) -> Run:
    config = subject.config()
    return Run(
        config=config, policy=runs.TinyPolicy(), precision=_precision(subject),
        strategy=SingleDevice(config),
    )  # fmt: skip


def _set_up(events: Events, run: Run) -> None:
    try:
        events.run_setup(run)
        run.prepare()
        events.run_start(run)
    except Exception as error:
        raise NotApplicable("it does not start: see the check 'trains_to_the_end'") from error


def _precision(subject: Subject) -> Any:
    from simscaleai_core.builtin.fp32 import Float32

    return Float32(subject.config())
