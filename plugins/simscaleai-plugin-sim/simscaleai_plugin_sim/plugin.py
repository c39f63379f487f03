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
    yield EnvSpec(
        name="pick_place",
        target="simscaleai_plugin_sim.catalog:make_pick_place",
        expert="simscaleai_plugin_sim.tasks.pick_place:PickPlace.expert",
        summary="7-DoF arm: take a cube from a pedestal and put it down on a target",
    )
    yield EnvSpec(
        name="push",
        target="simscaleai_plugin_sim.catalog:make_push",
        expert="simscaleai_plugin_sim.tasks.push:Push.expert",
        summary="7-DoF arm: push a cube over the table to a goal, to within 3 cm",
    )
    yield EnvSpec(
        name="reach_language",
        target="simscaleai_plugin_sim.catalog:make_reach_language",
        expert="simscaleai_plugin_sim.tasks.reach_language:ReachLanguage.expert",
        summary="7-DoF arm with a camera: bring the tool to the ball that an instruction names",
    )
    yield EnvSpec(
        name="pick_language",
        target="simscaleai_plugin_sim.catalog:make_pick_language",
        expert="simscaleai_plugin_sim.tasks.pick_language:PickLanguage.expert",
        summary="7-DoF arm with two cameras: put the cube that an instruction names on a plate",
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
