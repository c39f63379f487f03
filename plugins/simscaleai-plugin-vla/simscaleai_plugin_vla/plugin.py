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
        recommended={
            "lr": 1e-3,
            "batch_size": 96,
            "warmup_steps": 100,
            "max_steps": 2000,
            "vla": {"action_horizon": 1, "vary_words_after": 1000},
        },
        reached="98.5% (95.7 to 99.5, n=200) on reach_language of 1,000 relabelled demonstrations "
        "with two cameras of 64 pixels, in 17 CPU minutes",
    ),
)
