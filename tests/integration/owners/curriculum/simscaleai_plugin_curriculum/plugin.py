"""What this plugin offers."""

from __future__ import annotations

from simscaleai_core.plugin import PluginInfo, SamplerSpec, provides

PLUGIN = PluginInfo(summary="Easy samples first", selects={"sampler": "curriculum"})

simscale_register_samplers = provides(
    SamplerSpec(
        name="curriculum",
        target="simscaleai_plugin_curriculum.order:Curriculum",
        options="simscaleai_plugin_curriculum.options:CurriculumOptions",
        summary="From the samples with the smallest actions to all",
    ),
)
