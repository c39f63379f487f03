"""Following one metric of the evaluations: shared by the extensions that judge it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from simscaleai_core.contracts import StateDict
from simscaleai_core.errors import ConfigError
from simscaleai_core.hookspecs import (
    simscale_eval_context,
    simscale_on_eval_end,
    simscale_on_run_setup,
)
from simscaleai_core.run.state import Run

logger = logging.getLogger("simscaleai")


class Monitor:
    """Collects the metrics of one evaluation and passes the chosen one to a judge.

    Args:
        owner: Name of the extension, for messages.
        metric: Name of the metric, such as ``"eval/loss"``.
        mode: ``"min"`` or ``"max"``.
    """

    def __init__(self, owner: str, metric: str, mode: str) -> None:
        self.metric = metric
        self._owner = owner
        self._mode = mode
        self._found: dict[str, float] = {}
        self._is_measured = False

    def add(self, results: Mapping[str, float]) -> None:
        """Add the results of one eval function."""
        self._found.update({f"eval/{name}": value for name, value in results.items()})

    @contextmanager
    def evaluation(self, judge: Callable[[float], None]) -> Iterator[None]:
        """Enclose one evaluation; afterwards call `judge` with the metric.

        Raises:
            ConfigError: If no eval function gave the metric.
        """
        self._found = {}
        yield
        if self.metric not in self._found:
            raise ConfigError(
                f"the extension {self._owner!r} watches {self.metric!r}, which no evaluation gave. "
                f"Found: {', '.join(sorted(self._found)) or 'none'}. Choose one with "
                f"--{self._owner}.monitor."
            )
        self._is_measured = True
        judge(self._found[self.metric])

    def is_better(self, value: float, than: float | None, by: float = 0.0) -> bool:
        """Return whether a value beats another by more than a margin; NaN never does."""
        if not math.isfinite(value):
            return False
        if than is None:
            return True
        return value < than - by if self._mode == "min" else value > than + by

    def warn_if_missing(self) -> None:
        """Warn if no evaluation of the run had the metric."""
        if not self._is_measured:
            logger.warning(
                "the extension %r did nothing: the run ended without an evaluation that gives %s",
                self._owner,
                self.metric,
            )

    def settings(self) -> dict[str, str]:
        """Return metric and mode, to be saved with the state that depends on them."""
        return {"monitor": self.metric, "mode": self._mode}

    def fits(self, state: Mapping[str, Any]) -> bool:
        """Return whether saved state is about the same metric; warn if it is not."""
        before = {name: state[name] for name in ("monitor", "mode")}
        if before != self.settings():
            logger.warning(
                "the extension %r starts afresh: the checkpoint watched %s (%s), this run %s (%s)",
                self._owner, before["monitor"], before["mode"], self.metric, self._mode,
            )  # fmt: skip
            return False
        return True


class MetricExtension:
    """An extension that judges one metric of every evaluation, and has its state saved.

    Args:
        name: Name of the extension.
        metric: Name of the metric, such as ``"eval/loss"``.
        mode: ``"min"`` or ``"max"``.
    """

    def __init__(self, name: str, metric: str, mode: str) -> None:
        self._name = name
        self._monitor = Monitor(name, metric, mode)

    @simscale_on_run_setup
    def keep_state(self, run: Run) -> None:
        """Have the state saved."""
        run.register_state(self._name, self)

    @simscale_eval_context
    def judged(self, run: Run) -> AbstractContextManager[Any]:
        """Return a context that judges the evaluation when it is over."""
        return self._monitor.evaluation(lambda value: self._judge(run, value))

    @simscale_on_eval_end
    def collect(self, name: str, results: Mapping[str, float]) -> None:
        """Collect the results of an eval function."""
        del name
        self._monitor.add(results)

    def _judge(self, run: Run, value: float) -> None:
        raise NotImplementedError

    def state_dict(self) -> StateDict:
        """Return the state, with the metric that it is about."""
        raise NotImplementedError

    def load_state_dict(self, state: StateDict) -> None:
        """Restore the state, if it is about the same metric."""
        raise NotImplementedError
