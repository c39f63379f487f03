"""The logger ``console``: training on standard error, as lines or, on a terminal, as a live row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from simscaleai_core.cli import display, live
from simscaleai_core.cli.output import print_fields, print_note
from simscaleai_core.config import TrainConfig
from simscaleai_core.plugin import hookimpl

if TYPE_CHECKING:
    from simscaleai_core.cli.training import TrainingRow
    from simscaleai_core.run.state import Run

_SHOWN = ("train/loss", "eval/loss", "train/lr", "train/grad_norm", "perf/samples_per_s")


class ConsoleLogger:
    """One line per logging window on standard error; on a terminal, only per evaluation.

    There, a live row shows where training stands. See `simscaleai_core.contracts.Logger`.
    """

    def __init__(self, config: TrainConfig, options: None = None) -> None:
        del options
        self._max_steps = config.max_steps
        self._row: TrainingRow | None = None

    def start(self, facts: Mapping[str, Any], step: int) -> None:
        """Print what is really in effect."""
        for name, value in facts.items():
            if name != "plugins":
                print_note(f"  {name}: {value}")
        print_note(f"training from step {step} to {self._max_steps}")
        if live.is_possible():
            from simscaleai_core.cli.training import TrainingRow

            self._row = TrainingRow(self._max_steps)

    @hookimpl
    def simscale_on_run_start(self, run: Run) -> None:
        """Begin to show where the run stands."""
        if self._row is not None:
            self._row.watch(run)
            display.show(self._row)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Print the metrics that people look at; every evaluation metric is shown."""
        names = [n for n in _SHOWN if n in metrics]
        ends = {end for both in _intervals(metrics).values() for end in both}
        others = [n for n in metrics if n.startswith("eval/") and n not in names]
        names += [n for n in others if n not in ends]
        is_eval = any(n.startswith("eval/") for n in metrics)
        if self._row is not None:
            self._row.metrics.update(metrics)
            if not is_eval:
                return
        fields = [_field(n, metrics) for n in names]
        kind = "eval " if is_eval else ""
        print_fields([f"{kind}step {step}/{self._max_steps}", *fields])

    def close(self, status: str) -> None:
        """Print how the run ended."""
        display.clear()  # what is left to tear down has no row of its own
        print_note(f"training {status}")


def _intervals(metrics: Mapping[str, float]) -> dict[str, tuple[str, str]]:
    """Return the names of the bounds of each metric that has an interval."""
    named = {name: (f"{name}_low", f"{name}_high") for name in metrics}
    return {name: ends for name, ends in named.items() if metrics.keys() >= set(ends)}


def _field(name: str, metrics: Mapping[str, float]) -> str:
    """Return a metric as text, with its interval if it has one."""
    text = f"{name.partition('/')[2]} {metrics[name]:.4g}"
    ends = _intervals(metrics).get(name)
    return text if ends is None else f"{text} [{metrics[ends[0]]:.3g}, {metrics[ends[1]]:.3g}]"
