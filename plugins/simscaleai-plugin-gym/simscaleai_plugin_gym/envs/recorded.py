"""The environment that a checkpoint's data was recorded in, and whether two names mean the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simscaleai_core.cli.output import print_warning
from simscaleai_core.errors import ConfigError
from simscaleai_core.host.facade import Host
from simscaleai_plugin_gym.envs.catalog import find_declared


def recorded_env(tree: Mapping[str, Any], checkpoint: Path) -> str:
    """Return the environment that a checkpoint's data was recorded in.

    Args:
        tree: What was read from the checkpoint.
        checkpoint: Where, for the message.

    Raises:
        ConfigError: If the checkpoint does not know it.
    """
    name = (tree.get("data") or {}).get("env")
    if not name:
        raise ConfigError(
            f"{checkpoint} does not say where its data was recorded: expected an environment. "
            "Name it with --env."
        )
    return str(name)


def warn_of_another_env(
    tree: Mapping[str, Any], checkpoint: Path, name: str, host: Host, verb: str
) -> None:
    """Say that a policy acts in another environment than its data was recorded in.

    Args:
        tree: What was read from the checkpoint.
        checkpoint: Where.
        name: The environment in which its policy acts.
        host: Knows the plugins.
        verb: What it does there, such as ``"acts"``.
    """
    recorded = (tree.get("data") or {}).get("env")
    if recorded and not is_same_env(recorded, name, host):
        print_warning(
            f"warning: {checkpoint} was trained on data of the environment {str(recorded)!r}, and "
            f"{verb} in {name!r}."
        )


def is_same_env(one: str, other: str, host: Host) -> bool:
    """Return whether two names, of plugins or of Gymnasium, mean the same environment."""
    if one == other:
        return True
    first, second = (find_declared(name, host) for name in (one, other))
    return first is not None and second is not None and first.id == second.id
