"""What this plugin offers."""

from __future__ import annotations

from simscaleai_core.plugin import PluginInfo, StrategySpec, provides

PLUGIN = PluginInfo(
    summary="Policies sharded over the ranks under torchrun", selects={"strategy": "fsdp"}
)

simscale_register_strategies = provides(
    StrategySpec(
        name="fsdp",
        target="simscaleai_plugin_fsdp.strategy:FSDPStrategy",
        options="simscaleai_plugin_fsdp.options:FSDPOptions",
        summary="Parameters, gradients and optimiser state sharded by torch's fully_shard",
    ),
)
