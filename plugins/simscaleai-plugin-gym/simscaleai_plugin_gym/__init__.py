"""Any Gymnasium environment: recording, closed-loop evaluation and video.

Everything here is imported when it is first used, so that listing plugins stays quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simscaleai_core import lazy_names

if TYPE_CHECKING:
    from simscaleai_plugin_gym.envs.catalog import find_expert
    from simscaleai_plugin_gym.envs.construction import make_env, make_vector_env
    from simscaleai_plugin_gym.envs.failures import EnvError
    from simscaleai_plugin_gym.evaluate.evaluation import EvalConfig, evaluate_policy
    from simscaleai_plugin_gym.evaluate.intervals import wilson
    from simscaleai_plugin_gym.record.experts import per_env, per_slot
    from simscaleai_plugin_gym.record.recording import record_episodes
    from simscaleai_plugin_gym.rollout.disturbances import Disturbances

_HOMES = {
    "Disturbances": "rollout.disturbances",
    "EnvError": "envs.failures",
    "EvalConfig": "evaluate.evaluation",
    "evaluate_policy": "evaluate.evaluation",
    "find_expert": "envs.catalog",
    "make_env": "envs.construction",
    "make_vector_env": "envs.construction",
    "per_env": "record.experts",
    "per_slot": "record.experts",
    "record_episodes": "record.recording",
    "wilson": "evaluate.intervals",
}

__all__ = [
    "Disturbances",
    "EnvError",
    "EvalConfig",
    "evaluate_policy",
    "find_expert",
    "make_env",
    "make_vector_env",
    "per_env",
    "per_slot",
    "record_episodes",
    "wilson",
]

__getattr__ = lazy_names(__name__, _HOMES)
