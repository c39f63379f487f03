"""What can be varied of an environment: what its plugin declares, else its numeric options."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import gymnasium
from attrs import frozen
from gymnasium.envs.registration import load_env_creator

from simscaleai_plugin_gym.envs.catalog import spec_of
from simscaleai_plugin_gym.envs.construction import entry_module, find_env

if TYPE_CHECKING:
    from simscaleai_core.host.facade import Host


@frozen
class Variation:
    """A number of an environment that can be varied."""

    meaning: str
    """What it is."""
    default: float
    """Its value if nobody varies it."""


def variations_of(name: str, host: Host | None = None) -> dict[str, Variation]:
    """Return what can be varied of an environment.

    Args:
        name: Name of an environment that a plugin declares, or a Gymnasium id.
        host: Knows the plugins; those that are installed if None.

    Returns:
        Options by name. What a plugin declares are factors, 1 if nobody varies them; of another
        environment, the options whose default is a number.

    Raises:
        ConfigError: If nothing has that name.

    Example:
        >>> variations_of("MountainCar-v0")["goal_velocity"].default
        0
    """
    declared = find_env(name, host)
    if declared is not None:
        meanings = spec_of(declared).variations
        return {option: Variation(meaning, 1) for option, meaning in meanings.items()}
    entry_module(name)  # imports what registers it
    spec = gymnasium.spec(name.rpartition(":")[2])
    if spec.entry_point is None:
        return {}
    creator = (
        load_env_creator(spec.entry_point)
        if isinstance(spec.entry_point, str)
        else spec.entry_point
    )
    parameters = inspect.signature(creator).parameters
    defaults = {each: parameter.default for each, parameter in parameters.items()} | spec.kwargs
    return {
        option: Variation(f"option of {name}", value)
        for option, value in defaults.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
