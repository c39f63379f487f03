"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterator

from simscaleai_core.plugin import PluginInfo, StrategySpec, hookimpl

PLUGIN = PluginInfo(summary="DistributedDataParallel under torchrun", selects={"strategy": "ddp"})


@hookimpl
def simscale_register_strategies() -> Iterator[StrategySpec]:
    """Offer the strategy."""
    yield StrategySpec(
        name="ddp",
        target="simscaleai_plugin_ddp.strategy:DDPStrategy",
        options="simscaleai_plugin_ddp.options:DDPOptions",
        summary="One process per device, gradients averaged; one or many nodes",
    )
