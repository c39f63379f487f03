"""Driving an extension for checks of it: in a run, step by step, or as one of two ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from simscaleai_core.builtin.fp32 import Float32
from simscaleai_core.builtin.single import SingleDevice
from simscaleai_core.checkpoint.manifest import CheckpointInfo
from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import Strategy
from simscaleai_core.errors import ConfigError, PluginError
from simscaleai_core.host.components import maker
from simscaleai_core.host.events import compile_events
from simscaleai_core.plugin import hookimpl
from simscaleai_core.run.evaluation import evaluate
from simscaleai_core.run.events import Events
from simscaleai_core.run.state import Run
from simscaleai_core.run.train_step import Supervised
from simscaleai_devkit.checks import NotApplicable, left_to
from simscaleai_devkit.subject import Subject
from simscaleai_devkit.support.listeners import FailAt, PlannedError
from simscaleai_devkit.support.policies import TinyPolicy
from simscaleai_devkit.support.process import random_states
from simscaleai_devkit.support.runs import FinishedRun, loader, logged_curves


class States:
    """Keeps the states that are registered."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}
        """State by name, once the run has ended."""

    @hookimpl
    def simscale_on_run_end(self, run: Run) -> None:
        """Keep them."""
        self.found = {n: s.state_dict() for n, s in run.states.items() if n != "loop"}


class RandomStates:
    """Keeps the global random states at each event."""

    def __init__(self) -> None:
        self.found: list[tuple[str, dict[str, Any]]] = []
        """Event and random states, in order."""

    def _keep(self, event: str) -> None:
        self.found.append((event, random_states()))

    @hookimpl
    def simscale_on_grads_ready(self) -> None:
        """Keep them before the update."""
        self._keep("grads_ready")

    @hookimpl
    def simscale_on_step_end(self) -> None:
        """Keep them after a step."""
        self._keep("step_end")

    @hookimpl
    def simscale_on_metrics(self) -> None:
        """Keep them in a logging window."""
        self._keep("metrics")

    @hookimpl
    @contextmanager
    def simscale_eval_context(self) -> Iterator[None]:
        """Keep them around an evaluation."""
        self._keep("the beginning of an evaluation")
        yield
        self._keep("the end of an evaluation")

    @hookimpl
    def simscale_on_eval_end(self) -> None:
        """Keep them after an eval function."""
        self._keep("eval_end")


class OneOfTwo(SingleDevice):
    """One rank of two, of which the other one has the same values; notes what is exchanged.

    Args:
        config: The run's configuration.
        rank: Which of the two.
    """

    world_size = 2

    def __init__(self, config: TrainConfig, rank: int) -> None:
        super().__init__(config)
        self.rank = rank
        self.event = "setup or a step"
        """What the run is doing, for `calls`."""
        self.calls: list[str] = []
        """What was exchanged, and when."""

    def reduce(self, values: Tensor) -> Tensor:
        """Return twice the values `[N]`."""
        self.calls.append(f"reduce in {self.event}")
        return values * 2

    def gather(self, value: Any) -> list[Any]:
        """Return the value twice."""
        self.calls.append(f"gather in {self.event}")
        return [value, value]

    def broadcast(self, value: Any) -> Any:
        """Return the value."""
        self.calls.append(f"broadcast in {self.event}")
        return value


def saved(subject: Subject) -> CheckpointInfo:
    """Write a file that stands for a checkpoint, and return what a run says of it."""
    (subject.folder / "step_3.pt").write_bytes(b"saved")
    return CheckpointInfo(
        file="step_3.pt", step=3, run=0, size_bytes=5, blake2b="0" * 32, backend="pt"
    )


class FailingJudge:
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
        """Fail, if it was told to.

        Raises:
            PlannedError: If it was told to.
        """
        if self._fails:
            raise PlannedError("planned in an evaluation")


def changed_metrics(subject: Subject, run: str) -> dict[tuple[str, int], str]:
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


def fields_of(subject: Subject) -> dict[str, Any]:
    """Return the fields of the configuration of a run with the extension."""
    return {"extensions": (subject.component.id,), "max_steps": 10}


def train_with(subject: Subject, folder: str, *, listeners: Any = (), **fields: Any) -> FinishedRun:
    """Run the real trainer with the extension.

    Args:
        subject: The extension under test.
        folder: Name of the run's folder.
        listeners: Further listeners.
        fields: Fields of the configuration.

    Returns:
        What the run returned and left.
    """
    with _skipped_unless_it_runs(subject):
        given = {**fields_of(subject), **fields}
        return subject.train(folder, given, listeners=listeners, held_out=True)


def error_of_failing_run(subject: Subject) -> Exception | None:
    """Return what a run raises that is to fail at step 3."""
    try:
        train_with(subject, "run", listeners=[FailAt(3)])
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


def started(
    subject: Subject,
    *,
    before: object = None,
    after: object = None,
    strategy: Strategy | None = None,
) -> Run:
    """Return a run that has begun with the extension, to be driven step by step.

    Args:
        subject: The extension under test.
        before: A listener that is called before it.
        after: A listener that is called after it.
        strategy: The run's strategy; a single device if None.

    Returns:
        The run.
    """
    config, policy = subject.config(), TinyPolicy()
    listeners = [("before", before), ("under test", subject.build()), ("after", after)]
    run = Run(
        config=config,
        policy=policy,
        precision=Float32(config),
        strategy=strategy or SingleDevice(config),
        build_optimizer=maker(subject.host, "optimizer", config.optimizer, config),
        build_schedule=maker(subject.host, "schedule", config.schedule, config),
        events=_compiled([(name, one) for name, one in listeners if one is not None]),
    )
    with left_to("trains_to_the_end", "it does not start"):
        run.events.run_setup(run)
        run.prepare()
        run.events.run_start(run)
    return run


def train_step(run: Run) -> None:
    """Train one step and fire its events."""
    with left_to("trains_to_the_end", "it does not train"):
        result = Supervised(run.config).update(run, next(iter(loader())))
        run.counters.step += 1
        for hook in run.events.step_end:
            hook(run, result.out)


def evaluated(run: Run) -> None:
    """Evaluate as a run does."""
    evaluate(run, [("held_out_loss", lambda policy: {"loss": 0.5})])  # noqa: ARG005 - the contract
