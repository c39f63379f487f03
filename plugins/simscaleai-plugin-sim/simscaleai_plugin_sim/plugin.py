"""What this plugin offers; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator

from simscaleai_core.plugin import EnvSpec, EvalFunctionSpec, PluginInfo, hookimpl

PLUGIN = PluginInfo(summary="MuJoCo environments, scripted experts and closed-loop evaluation")


@hookimpl
def simscale_register_envs() -> Iterator[EnvSpec]:
    """Declare the environments.

    Yields:
        One declaration per environment.
    """
    yield EnvSpec(
        name="reach",
        target="simscaleai_plugin_sim.catalog:make_reach",
        expert="simscaleai_plugin_sim.tasks.reach:Reach.expert",
        summary="7-DoF arm: bring the tool to a point, to within 2 cm",
    )


@hookimpl
def simscale_register_eval_functions() -> Iterator[EvalFunctionSpec]:
    """Declare the closed-loop evaluation.

    Yields:
        Its declaration.
    """
    yield EvalFunctionSpec(
        name="closed_loop",
        target="simscaleai_plugin_sim.closed_loop:ClosedLoop",
        options="simscaleai_plugin_sim.options:ClosedLoopOptions",
        summary="success rate, return and length of episodes in the environment",
    )
