"""What this plugin offers."""

from __future__ import annotations

from simscaleai_core.plugin import PluginInfo, TrainStepSpec, provides

PLUGIN = PluginInfo(summary="Sharpness-aware minimisation", selects={"train_step": "sam"})

simscale_register_train_steps = provides(
    TrainStepSpec(
        name="sam",
        target="simscaleai_plugin_sam.step:SharpnessAware",
        options="simscaleai_plugin_sam.options:SamOptions",
        summary="Gradients at the worst weights nearby",
    ),
)
