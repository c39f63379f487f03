"""The live row of a run in training."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from simscaleai_core.cli.bars import Bar, Part, duration, row, short
from simscaleai_core.cli.output import print_note
from simscaleai_core.run.signals import SignalFlag

if TYPE_CHECKING:
    from simscaleai_core.run.state import Run

_STALL_S = 3.0
_STALL_STEPS = 3  # what takes as long as so many steps is worth a word
_GLIMPSE_S = 0.5
_WORDS = {
    "": "starting",
    "batch": "waiting for a batch",
    "step": "one step",
    "evaluation": "evaluating",
    "checkpoint": "writing a checkpoint",
}
_FIRST = {"": "starting", "batch": "first batch", "step": "first step"}
_PAUSES = ("evaluation", "checkpoint")
_INTERRUPTED = "interrupted: the run stops after this step. Once more, and it ends at once."


class TrainingRow:
    """The source of the row: it looks at the run from the thread that draws, no step waits for it.

    Args:
        max_steps: Steps of the run.
    """

    def __init__(self, max_steps: int) -> None:
        self._max_steps = max_steps
        self._run: Run | None = None
        self._first_step = 0
        self._second_at = 0.0  # when the first step was over
        self._doing, self._since = ("", 0), 0.0
        self._is_told = False
        self.metrics: dict[str, float] = {}
        """The newest of each metric."""

    def watch(self, run: Run) -> None:
        """Look at a run from now on."""
        self._first_step, self._since, self._run = run.step, time.monotonic(), run

    def __call__(self, width: int) -> str:
        """Return the row as it is now."""
        run, now = self._run, time.monotonic()
        if run is None or self._is_interrupted():
            return ""
        step = run.step
        if step > self._first_step and not self._second_at:
            self._second_at = now
        most = str(self._max_steps)
        parts: list[Part | Bar] = [Part(f"{step:>{len(most)}}/{most}"), Bar(step, self._max_steps)]
        return row([*parts, self._progress(run, step, now), *self._measured()], width)

    def _progress(self, run: Run, step: int, now: float) -> Part:
        """Return the time that is left, or what the run waits for."""
        if (run.phase, step) != self._doing:
            self._doing, self._since = (run.phase, step), now
        passed, done = now - self._since, step - self._first_step
        per_step = (now - self._second_at) / (done - 1) if done > 1 else 0.0
        is_long = passed > max(_STALL_S, _STALL_STEPS * per_step)
        is_pause = run.phase in _PAUSES and passed > _GLIMPSE_S
        if not done and run.phase in _FIRST:
            text = f"{_FIRST[run.phase]} {duration(passed)}"
        elif is_pause or is_long:
            text = f"{_WORDS[run.phase]} {duration(passed)}"
        else:  # the first step says nothing of the others
            left = duration(per_step * (self._max_steps - step))
            text = f"{left} left" if done > 1 else ""
        return Part(f"{text:<9}", style="cyan")

    def _measured(self) -> list[Part]:
        found, parts = self.metrics, []
        if (loss := found.get("train/loss")) is not None:
            parts.append(Part(f"loss {loss:<6.3g}", 1))
        if (rate := found.get("train/lr")) is not None:
            parts.append(Part(f"lr {rate:<7.2g}", 3))
        if (speed := found.get("perf/samples_per_s")) is not None:
            parts.append(Part(f"{short(speed):>5} samples/s", 2, "dim"))
        return parts

    def _is_interrupted(self) -> bool:
        """Return whether a signal has asked the run to stop, and say so the first time.

        Nothing is drawn from then on: another signal ends the process wherever it is.
        """
        flag = getattr(signal.getsignal(signal.SIGINT), "__self__", None)
        if not isinstance(flag, SignalFlag) or not flag.name:
            return False
        if not self._is_told:
            self._is_told = True
            print_note(_INTERRUPTED)
        return True
