"""A trace of a few steps, for chrome://tracing or Perfetto."""

from __future__ import annotations

import logging
from pathlib import Path

from torch.profiler import ProfilerActivity, profile

from simscaleai_core.checkpoint.files import replace_atomically
from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import ConfigError
from simscaleai_core.hookspecs import (
    simscale_on_run_end,
    simscale_on_run_start,
    simscale_on_step_end,
)
from simscaleai_core.run.state import Run
from simscaleai_plugin_extensions.options import ProfilerOptions

logger = logging.getLogger("simscaleai")


class Profiler:
    """Writes ``<checkpoint_dir>/profile/rank_<r>_steps_<first>_<last>.json``.

    A run that ends within the trace writes the part that it has; one that is resumed behind its
    beginning writes none.

    Args:
        config: Gives `checkpoint_dir` and `max_steps`.
        options: The extension's options; the defaults if None.

    Raises:
        ConfigError: If the run is over before the trace begins.
    """

    def __init__(self, config: TrainConfig, options: ProfilerOptions | None = None) -> None:
        self._options = options or ProfilerOptions()
        if self._options.start >= config.max_steps:
            raise ConfigError(
                f"the profiler would begin after step {self._options.start}: expected less than "
                f"max_steps, got {config.max_steps}. Lower --profiler.start."
            )
        self._directory = Path(config.checkpoint_dir) / "profile"
        self._profile: profile | None = None

    @simscale_on_run_start
    def begin_at_once(self, run: Run) -> None:
        """Begin at once if no step is to be let pass."""
        if run.step == self._options.start:
            self._begin(run)
        elif run.step > self._options.start:
            logger.warning("no profile: the run is resumed at step %d, behind the beginning of "
                           "the trace at %d", run.step, self._options.start)  # fmt: skip

    @simscale_on_step_end
    def follow(self, run: Run) -> None:
        """Begin, mark a step, or end."""
        if self._profile is not None:
            self._profile.step()
            if run.step == self._options.start + self._options.count:
                self._end(run)
        elif run.step == self._options.start:
            self._begin(run)

    @simscale_on_run_end
    def write_rest(self, run: Run) -> None:
        """Write what there is of an unfinished trace."""
        if self._profile is not None:
            self._end(run)

    def _begin(self, run: Run) -> None:
        activities = [ProfilerActivity.CPU]
        if run.strategy.device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        self._profile = profile(activities=activities, profile_memory=self._options.memory)
        self._profile.start()

    def _end(self, run: Run) -> None:
        trace, self._profile = self._profile, None
        if trace is None:
            return
        trace.stop()
        self._directory.mkdir(parents=True, exist_ok=True)
        first = self._options.start + 1
        path = self._directory / f"rank_{run.strategy.rank}_steps_{first}_{run.step}.json"
        with replace_atomically(path) as temporary:
            trace.export_chrome_trace(str(temporary))
        logger.info("profile of steps %d to %d: %s", first, run.step, path)
