"""What this plugin offers."""

from __future__ import annotations

from simscaleai_core.plugin import PluginInfo, TransformSpec, provides

PLUGIN = PluginInfo(summary="Noise on observations", selects={"transform": "jitter"})

simscale_register_transforms = provides(
    TransformSpec(
        name="jitter",
        target="simscaleai_plugin_jitter.noise:Jitter",
        options="simscaleai_plugin_jitter.options:JitterOptions",
        summary="Normal noise on low-dimensional observations",
    ),
)
