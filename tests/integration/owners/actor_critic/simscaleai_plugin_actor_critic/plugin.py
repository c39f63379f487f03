"""What this plugin offers."""

from __future__ import annotations

from simscaleai_core.plugin import ModelSpec, PluginInfo, TrainStepSpec, provides

PLUGIN = PluginInfo(
    summary="An actor and a critic with two optimisers",
    selects={"model": "actor-critic", "train_step": "learn-both"},
)

simscale_register_models = provides(
    ModelSpec(
        name="actor-critic",
        target="simscaleai_plugin_actor_critic.policy:ActorCritic",
        options="simscaleai_plugin_actor_critic.options:ActorCriticOptions",
        summary="An actor, and a critic of its errors",
    ),
)

simscale_register_train_steps = provides(
    TrainStepSpec(
        name="learn-both",
        target="simscaleai_plugin_actor_critic.step:LearnBoth",
        options="simscaleai_plugin_actor_critic.options:LearnBothOptions",
        summary="One update of the actor and one of the critic",
    ),
)
