"""What this plugin offers."""

from __future__ import annotations

from simscaleai_core.plugin import PluginInfo, PrecisionSpec, provides

PLUGIN = PluginInfo(summary="Mixed precision", selects={"precision": "amp"})

simscale_register_precisions = provides(
    PrecisionSpec(
        name="amp",
        target="simscaleai_plugin_amp.precision:MixedPrecision",
        options="simscaleai_plugin_amp.options:AmpOptions",
        summary="Forward pass in bfloat16, or in float16 with loss scaling",
    ),
)
