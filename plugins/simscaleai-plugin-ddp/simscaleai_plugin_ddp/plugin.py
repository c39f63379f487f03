"""What this plugin offers."""

from __future__ import annotations

from simscaleai_core.plugin import PluginInfo, StrategySpec, provides

PLUGIN = PluginInfo(summary="DistributedDataParallel under torchrun", selects={"strategy": "ddp"})

simscale_register_strategies = provides(
    StrategySpec(
        name="ddp",
        target="simscaleai_plugin_ddp.strategy:DDPStrategy",
        options="simscaleai_plugin_ddp.options:DDPOptions",
        summary="One process per device, gradients averaged; one or many nodes",
    ),
)
