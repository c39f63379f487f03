"""What this plugin offers; imports nothing heavy."""

from __future__ import annotations

from simscaleai_core.plugin import EvalFunctionSpec, PluginInfo, provides
from simscaleai_plugin_gym.executors.hookspecs import ExecutorSpec

PLUGIN = PluginInfo(
    summary="Recording, closed-loop evaluation and video in Gymnasium environments",
    hookspecs="simscaleai_plugin_gym.executors.hookspecs",
)

simscale_register_eval_functions = provides(
    EvalFunctionSpec(
        name="closed_loop",
        target="simscaleai_plugin_gym.evaluate.closed_loop:ClosedLoop",
        options="simscaleai_plugin_gym.options:ClosedLoopOptions",
        summary="success rate, return and length of episodes in the environment",
    ),
)

gym_register_executors = provides(
    ExecutorSpec(
        name="local",
        target="simscaleai_plugin_gym.executors.local:LocalExecutor",
        summary="this machine: one process, or several with --workers",
    ),
)
