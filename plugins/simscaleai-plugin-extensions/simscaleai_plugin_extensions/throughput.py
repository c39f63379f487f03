"""Time per step and memory as metrics, without making the device wait."""

from __future__ import annotations

import sys

import torch

from simscaleai_core.config import TrainConfig
from simscaleai_core.hookspecs import simscale_on_metrics, simscale_on_run_start
from simscaleai_core.run.state import Run
from simscaleai_plugin_extensions.options import ThroughputOptions

_RATE = "perf/samples_per_s"
_GIB = 1 << 30


class Throughput:
    """Adds ``perf/step_ms`` and the peak memory of rank 0 to the metrics of each window.

    Args:
        config: The run's configuration.
        options: The extension's options; the defaults if None.
    """

    def __init__(self, config: TrainConfig, options: ThroughputOptions | None = None) -> None:
        del config
        self._options = options or ThroughputOptions()
        self._step = 0
        self._samples = 0

    @simscale_on_run_start
    def begin_window(self, run: Run) -> None:
        """Begin the first window."""
        self._step, self._samples = run.step, run.counters.samples

    @simscale_on_metrics
    def add_metrics(self, run: Run, metrics: dict[str, float]) -> None:
        """Add the metrics.

        The core's rate leaves out evaluations and saves, and its clock is read where the window
        was copied to the host anyway; the time per step follows from it.

        Args:
            run: The run.
            metrics: Has the rate [samples/s]; gets ``perf/step_ms`` [ms] and memory [GiB].
        """
        steps = run.step - self._step
        samples = (run.counters.samples - self._samples) * run.strategy.world_size
        self._step, self._samples = run.step, run.counters.samples
        if steps and metrics.get(_RATE):
            metrics["perf/step_ms"] = 1000.0 * samples / metrics[_RATE] / steps
        if self._options.memory:
            metrics.update(memory_gib(run.strategy.device))


def memory_gib(device: torch.device) -> dict[str, float]:
    """Return the most memory that this process has held so far [GiB].

    Args:
        device: Where it computes.

    Returns:
        ``perf/peak_rss_gib`` where the system tells it, and for CUDA what tensors took
        (``perf/peak_cuda_gib``) and what torch holds for them (``perf/peak_cuda_reserved_gib``).
    """
    found: dict[str, float] = {}
    if sys.platform != "win32":
        import resource

        unit_bytes = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found["perf/peak_rss_gib"] = peak * unit_bytes / _GIB
    if device.type == "cuda":
        found["perf/peak_cuda_gib"] = torch.cuda.max_memory_allocated(device) / _GIB
        found["perf/peak_cuda_reserved_gib"] = torch.cuda.max_memory_reserved(device) / _GIB
    return found
