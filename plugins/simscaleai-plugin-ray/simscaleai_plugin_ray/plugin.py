"""What this plugin offers: the executor ``ray``."""

from __future__ import annotations

from simscaleai_plugin_gym.executors.hookspecs import ExecutorSpec

from simscaleai_core.plugin import PluginInfo, provides

PLUGIN = PluginInfo(summary="Recording and evaluation on Ray: simscale record --on ray")

gym_register_executors = provides(
    ExecutorSpec(
        name="ray",
        target="simscaleai_plugin_ray.executor:RayExecutor",
        options="simscaleai_plugin_ray.options:RayOptions",
        summary="Ray, on this machine or on a cluster",
    ),
)
