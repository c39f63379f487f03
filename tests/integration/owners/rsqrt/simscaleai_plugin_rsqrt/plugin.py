"""What this plugin offers."""

from __future__ import annotations

from simscaleai_core.plugin import PluginInfo, ScheduleSpec, provides

PLUGIN = PluginInfo(summary="An inverse square root schedule", selects={"schedule": "rsqrt"})

simscale_register_schedules = provides(
    ScheduleSpec(
        name="rsqrt",
        target="simscaleai_plugin_rsqrt.schedule:build",
        options="simscaleai_plugin_rsqrt.options:RsqrtOptions",
        summary="Warm-up, inverse square root, a straight line to 0 at the end",
    ),
)
