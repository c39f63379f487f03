"""What this plugin offers; imports nothing heavy."""

from __future__ import annotations

from simscaleai_core.plugin import EvalFunctionSpec, PluginInfo, provides

PLUGIN = PluginInfo(summary="Recording, closed-loop evaluation and video in Gymnasium environments")

simscale_register_eval_functions = provides(
    EvalFunctionSpec(
        name="closed_loop",
        target="simscaleai_plugin_gym.evaluate.closed_loop:ClosedLoop",
        options="simscaleai_plugin_gym.options:ClosedLoopOptions",
        summary="success rate, return and length of episodes in the environment",
    ),
)
