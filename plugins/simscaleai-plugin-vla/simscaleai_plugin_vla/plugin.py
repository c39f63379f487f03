"""What this plugin offers."""

from __future__ import annotations

from simscaleai_core.plugin import ModelSpec, PluginInfo, provides

PLUGIN = PluginInfo(
    summary="A policy that follows instructions from camera images", selects={"model": "vla"}
)

simscale_register_models = provides(
    ModelSpec(
        name="vla",
        target="simscaleai_plugin_vla.policy:VLAPolicy",
        options="simscaleai_plugin_vla.options:VLAOptions",
        summary="Transformer from images, an instruction and the state to a chunk of actions",
    ),
)
