"""MuJoCo environments on Gymnasium, scripted experts, recording and closed-loop evaluation.

Everything here is imported when it is first used, so that listing plugins stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simscaleai_plugin_sim.catalog import find_expert, make_env, make_vector_env
    from simscaleai_plugin_sim.evaluation import EvalConfig, evaluate_policy
    from simscaleai_plugin_sim.experts import per_slot
    from simscaleai_plugin_sim.intervals import wilson
    from simscaleai_plugin_sim.recording import record_episodes

_HOMES = {
    "EvalConfig": "evaluation",
    "evaluate_policy": "evaluation",
    "find_expert": "catalog",
    "make_env": "catalog",
    "make_vector_env": "catalog",
    "per_slot": "experts",
    "record_episodes": "recording",
    "wilson": "intervals",
}

__all__ = [
    "EvalConfig",
    "evaluate_policy",
    "find_expert",
    "make_env",
    "make_vector_env",
    "per_slot",
    "record_episodes",
    "wilson",
]


def __getattr__(name: str) -> Any:
    """Return a public name, imported when it is first used.

    Raises:
        AttributeError: If there is no such name.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
