"""Ending a run when a metric stops improving."""

from __future__ import annotations

from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import StateDict
from simscaleai_core.errors import ConfigError
from simscaleai_core.hookspecs import simscale_on_run_end, simscale_on_run_start
from simscaleai_core.run.state import Run
from simscaleai_plugin_extensions.monitor import MetricExtension
from simscaleai_plugin_extensions.options import EarlyStoppingOptions

_NAME = "early-stopping"


class EarlyStopping(MetricExtension):
    """Asks for a stop after too many evaluations without improvement.

    A value that is not finite is no improvement.

    Args:
        config: Gives `eval_every`.
        options: The extension's options; the defaults if None.

    Raises:
        ConfigError: If the run evaluates only at its end.
    """

    def __init__(self, config: TrainConfig, options: EarlyStoppingOptions | None = None) -> None:
        if not config.eval_every:
            raise ConfigError(
                f"the extension {_NAME!r} needs evaluations during the run: expected an eval_every "
                "above 0, got 0. Set --eval-every."
            )
        self._options = options or EarlyStoppingOptions()
        super().__init__(_NAME, self._options.monitor, self._options.mode)
        self._best: float | None = None
        self._num_stale = 0

    @simscale_on_run_start
    def stop_again(self, run: Run) -> None:
        """Stop again if the checkpoint is that of a run that was stopped."""
        self._stop_if_due(run)

    @simscale_on_run_end
    def warn_if_idle(self, status: str) -> None:
        """Warn if there was nothing to judge."""
        if status == "done":
            self._monitor.warn_if_missing()

    def _judge(self, run: Run, value: float) -> None:
        if self._is_due:
            return  # the stop is on its way; the run's last evaluation is not judged again
        if self._monitor.is_better(value, self._best, self._options.min_delta):
            self._best, self._num_stale = value, 0
        else:
            self._num_stale += 1
        self._stop_if_due(run)

    @property
    def _is_due(self) -> bool:
        return self._num_stale >= self._options.patience

    def _stop_if_due(self, run: Run) -> None:
        if self._is_due:
            run.request_stop(
                f"{_NAME}: {self._monitor.metric} has not improved on {self._best} in "
                f"{self._num_stale} evaluations"
            )

    def state_dict(self) -> StateDict:
        """Return the counter and the best value."""
        return {
            **self._monitor.settings(),
            "best": self._best,
            "num_stale": self._num_stale,
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Restore the counter, if it is about the same metric."""
        if self._monitor.fits(state):
            self._best, self._num_stale = state["best"], state["num_stale"]
