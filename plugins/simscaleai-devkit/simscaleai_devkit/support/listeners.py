"""Listeners for runs under test: they record, keep state, fail at a step, or script a metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from simscaleai_core.contracts import StateDict
from simscaleai_core.plugin import hookimpl
from simscaleai_core.run.state import Run
from simscaleai_devkit.support.trees import edge_case_tree


class PlannedError(RuntimeError):
    """The error that `FailAt` ends a run with."""


class Recorder:
    """Records the loss of each step and the metrics of each logging window.

    Args:
        weights: Whether to copy the policy's weights after each step too.
    """

    def __init__(self, *, weights: bool = False) -> None:
        self.losses: list[float] = []
        self.metrics: dict[int, dict[str, float]] = {}
        self.weights: list[dict[str, Tensor]] = []
        self._records_weights = weights

    @hookimpl
    def simscale_on_step_end(self, run: Run, out: Mapping[str, Any]) -> None:
        """Record the loss."""
        self.losses.append(float(out["loss"].detach()))
        if self._records_weights:
            state = run.policy.state_dict()
            self.weights.append({name: tensor.clone() for name, tensor in state.items()})

    @hookimpl
    def simscale_on_metrics(self, run: Run, metrics: dict[str, float]) -> None:
        """Record the metrics."""
        self.metrics[run.step] = dict(metrics)


class StateKeeper:
    """Has state of every kind saved with the run."""

    def __init__(self) -> None:
        self.state: StateDict = edge_case_tree()

    @hookimpl
    def simscale_on_run_setup(self, run: Run) -> None:
        """Have the state saved."""
        run.register_state("keeper", self)

    def state_dict(self) -> StateDict:
        """Return the state."""
        return self.state

    def load_state_dict(self, state: StateDict) -> None:
        """Restore the state."""
        self.state = state


class FailAt:
    """Ends a run with `PlannedError`.

    Args:
        step: After which step [steps].
    """

    def __init__(self, step: int) -> None:
        self._step = step

    @hookimpl
    def simscale_on_step_end(self, run: Run) -> None:
        """Fail at the step.

        Raises:
            PlannedError: At the step.
        """
        if run.step == self._step:
            raise PlannedError(f"planned at step {run.step}")


class ScriptedEvaluation:
    """An eval function that returns given values by step; pass it as a listener too.

    Args:
        values: Value by step [steps]; between two of them the earlier one counts.
        name: Name of the metric.
    """

    def __init__(self, values: Mapping[int, float], name: str = "loss") -> None:
        self.values, self.name, self.step = values, name, 0

    @hookimpl
    def simscale_on_run_start(self, run: Run) -> None:
        """Note the step at which the run begins."""
        self.step = run.step

    @hookimpl
    def simscale_on_step_end(self, run: Run) -> None:
        """Note the step."""
        self.step = run.step

    def __call__(self, policy: nn.Module) -> dict[str, float]:
        """Return the scripted metric, and one that is always 0."""
        del policy
        step = max(s for s in self.values if s <= self.step)
        return {self.name: self.values[step], "other": 0.0}
