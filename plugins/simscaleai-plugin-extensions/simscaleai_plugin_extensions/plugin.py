"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterator

from simscaleai_core.plugin import ExtensionSpec, PluginInfo, hookimpl

PLUGIN = PluginInfo(summary="EMA, early stopping, best-k, throughput, profiler, freezing")

_PACKAGE = "simscaleai_plugin_extensions"


@hookimpl
def simscale_register_extensions() -> Iterator[ExtensionSpec]:
    """Offer the extensions; a run names those it wants."""
    yield ExtensionSpec(
        name="ema",
        target=f"{_PACKAGE}.ema:Ema",
        options=f"{_PACKAGE}.options:EmaOptions",
        summary="Exponential moving average of the weights, used in evaluations",
    )
    yield ExtensionSpec(
        name="early-stopping",
        target=f"{_PACKAGE}.early_stopping:EarlyStopping",
        options=f"{_PACKAGE}.options:EarlyStoppingOptions",
        summary="End the run when a metric stops improving",
    )
    yield ExtensionSpec(
        name="best-k",
        target=f"{_PACKAGE}.best_k:BestK",
        options=f"{_PACKAGE}.options:BestKOptions",
        summary="Keep the checkpoints of the best evaluations",
    )
    yield ExtensionSpec(
        name="throughput",
        target=f"{_PACKAGE}.throughput:Throughput",
        options=f"{_PACKAGE}.options:ThroughputOptions",
        summary="Time per step and memory as metrics",
    )
    yield ExtensionSpec(
        name="profiler",
        target=f"{_PACKAGE}.profiler:Profiler",
        options=f"{_PACKAGE}.options:ProfilerOptions",
        summary="Chrome trace of a few steps",
    )
    yield ExtensionSpec(
        name="freeze",
        target=f"{_PACKAGE}.freeze:Freeze",
        options=f"{_PACKAGE}.options:FreezeOptions",
        summary="Leave parameters as they are, by name",
    )
