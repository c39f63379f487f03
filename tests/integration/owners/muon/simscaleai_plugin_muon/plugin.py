"""What this plugin offers."""

from __future__ import annotations

from simscaleai_core.plugin import OptimizerSpec, PluginInfo, provides

PLUGIN = PluginInfo(summary="The Muon optimiser", selects={"optimizer": "muon"})

simscale_register_optimizers = provides(
    OptimizerSpec(
        name="muon",
        target="simscaleai_plugin_muon.muon:build",
        options="simscaleai_plugin_muon.options:MuonOptions",
        summary="Orthogonal momentum for matrices, AdamW for the rest",
    ),
)
