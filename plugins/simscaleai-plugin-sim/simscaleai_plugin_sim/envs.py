"""The arm's environments by name; importing this module registers them with Gymnasium.

So ``gymnasium.make("simscaleai_plugin_sim.envs:SimScale/Reach-v0")`` works as well.
"""

from __future__ import annotations

from typing import Any

import gymnasium

from simscaleai_plugin_sim.tasks import TASKS

Env = gymnasium.Env[Any, Any]


def make_reach(**options: Any) -> Env:
    """Return the environment ``reach``; see `ArmEnv` for the options."""
    return _make("reach", options)


def make_pick_place(**options: Any) -> Env:
    """Return the environment ``pick_place``; see `ArmEnv` for the options."""
    return _make("pick_place", options)


def make_push(**options: Any) -> Env:
    """Return the environment ``push``; see `ArmEnv` for the options."""
    return _make("push", options)


def make_reach_language(**options: Any) -> Env:
    """Return the environment ``reach_language``; see `ArmEnv` for the options."""
    return _make("reach_language", options)


def make_pick_language(**options: Any) -> Env:
    """Return the environment ``pick_language``; see `ArmEnv` for the options."""
    return _make("pick_language", options)


def register() -> None:
    """Make the environments known to Gymnasium; safe to call twice."""
    for task in TASKS.values():
        if task.env_id not in gymnasium.registry:
            gymnasium.register(
                id=task.env_id,
                entry_point="simscaleai_plugin_sim.arm_env.env:ArmEnv",
                vector_entry_point="simscaleai_plugin_sim.arm_env.vector:ArmVectorEnv",
                max_episode_steps=task.max_episode_steps,
                kwargs={"task": task.name},
            )


def _make(task: str, options: dict[str, Any]) -> Env:
    return gymnasium.make(TASKS[task].env_id, disable_env_checker=True, **options)


register()
