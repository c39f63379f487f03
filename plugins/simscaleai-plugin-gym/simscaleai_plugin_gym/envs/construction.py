"""Environments built from their names, one or many at a time, or an error that says why not."""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from simscaleai_core.errors import ConfigError, SimScaleError
from simscaleai_core.host.lookup import import_target
from simscaleai_plugin_gym.envs.catalog import find_declared, has_native_batch, spec_of, unknown_env
from simscaleai_plugin_gym.envs.processes import in_processes

if TYPE_CHECKING:
    from simscaleai_core.host.facade import Host
    from simscaleai_core.host.records import Component

Env = gymnasium.Env[Any, Any]

VECTORIZATIONS = ("native", "sync", "async")
"""Ways of running several environments: in one batch of their own, in turn, in processes."""

_NUM_ENVS_NATIVE = 32
_NUM_ENVS_SYNC = 8  # in turn, where more would only idle at the end

_OLD_MUJOCO = ("gymnasium_robotics", "metaworld", "robosuite")
"""Packages whose checks of joint types fail from mujoco 3.12 on."""


def make_env(name: str, *, host: Host | None = None, **options: Any) -> Env:
    """Return one environment by name.

    Args:
        name: Name of an environment that a plugin declares (``"lift"``, ``"acme/lift"``), or a
            Gymnasium id (``"CartPole-v1"``, ``"module:EnvId-v0"``).
        host: Knows the plugins; those that are installed if None.
        options: Passed to the environment.

    Returns:
        A Gymnasium environment.

    Raises:
        ConfigError: If nothing has that name, or the environment cannot be built with the options.

    Example:
        >>> env = make_env("CartPole-v1", max_episode_steps=20)
        >>> observation, info = env.reset(seed=0)
        >>> observation.shape
        (4,)
        >>> env.close()
    """
    return _build(name, _find(name, host), options)


def make_vector_env(
    name: str,
    num_envs: int,
    *,
    vectorization: str | None = None,
    host: Host | None = None,
    **options: Any,
) -> VectorEnv[Any, Any, Any]:
    """Return `num_envs` environments as one vector environment that leaves resetting to the caller.

    Args:
        name: As for `make_env`.
        num_envs: Number of environments.
        vectorization: ``"native"``: one batch that the environment brings; ``"sync"``: built
            `num_envs` times and stepped in turn; ``"async"``: each in a process of its own. None
            takes native where a plugin declares a batch, and sync otherwise.
        host: As for `make_env`.
        options: As for `make_env`.

    Returns:
        A vector environment in ``AutoresetMode.DISABLED``.

    Raises:
        ConfigError: If nothing has that name, a number is out of range, or the environment does not
            offer that kind of vector.
    """  # noqa: DOC501 - built by construction_error
    declared = _find(name, host)
    kind = vectorization or ("native" if has_native_batch(declared) else "sync")
    if kind not in VECTORIZATIONS:
        raise ConfigError(
            f"vectorization: expected one of {', '.join(VECTORIZATIONS)}, got {vectorization!r}"
        )
    if num_envs < 1:
        raise ConfigError(f"num_envs: expected at least 1, got {num_envs}")
    try:
        if kind == "native":
            env_id = name if declared is None else spec_of(declared).env_id or name
            return gymnasium.make_vec(
                env_id, num_envs, vectorization_mode="vector_entry_point", **options
            )
        build = partial(_build, name, declared, options)
        if kind == "async":
            return in_processes(build, num_envs)
        return SyncVectorEnv([build] * num_envs, autoreset_mode=AutoresetMode.DISABLED)
    except SimScaleError:
        raise
    except Exception as error:
        raise construction_error(name, options, error) from error


def default_num_envs(
    name: str, vectorization: str | None = None, *, host: Host | None = None
) -> int:
    """Return how many environments to run side by side, if nobody says.

    Args:
        name: As for `make_env`.
        vectorization: As for `make_vector_env`.
        host: As for `make_env`.

    Returns:
        32 in a native batch; 8 in turn; one per processor in processes.
    """
    if vectorization == "async":
        return os.cpu_count() or 1
    if vectorization == "sync" or not has_native_batch(find_declared(name, host)):
        return _NUM_ENVS_SYNC
    return _NUM_ENVS_NATIVE


def entry_module(env_id: str) -> str:
    """Return the module that an environment of Gymnasium is written in.

    Args:
        env_id: Gymnasium id, perhaps with the module that registers it.

    Raises:
        ConfigError: If there is no such id.
    """  # noqa: DOC501 - built by construction_error
    module, _, name = env_id.rpartition(":")
    try:
        if module:
            import_module(module)
        entry_point = gymnasium.spec(name).entry_point
    except Exception as error:
        raise construction_error(env_id, {}, error) from error
    if isinstance(entry_point, str):
        return entry_point.partition(":")[0]
    return str(getattr(entry_point, "__module__", ""))


def construction_error(name: str, options: Mapping[str, Any], error: Exception) -> ConfigError:
    """Return the error for an environment whose construction failed.

    Args:
        name: Name of the environment.
        options: What it was given.
        error: What its construction raised.

    Returns:
        An error that says why, and what to do if the reason is known.
    """
    given = f" with {dict(options)!r}" if options and isinstance(error, TypeError) else ""
    return ConfigError(f"environment {name!r}{given} cannot be made: {_reason(error)}")


def _find(name: str, host: Host | None) -> Component | None:
    """Return the declared environment of a name, or None if it is Gymnasium's."""
    declared = find_declared(name, host)
    if declared is None and ":" not in name and name not in gymnasium.registry:
        raise unknown_env(name, gymnasium.registry, host)
    return declared


def _build(name: str, declared: Component | None, options: Mapping[str, Any]) -> Env:
    """Return one environment; processes of their own call this too.

    Raises:
        ConfigError: If it cannot be built.
    """  # noqa: DOC501 - built by construction_error
    try:
        if declared is not None:
            made: Env = import_target(declared)(**options)
            return made
        return gymnasium.make(name, disable_env_checker=True, **options)
    except SimScaleError:
        raise
    except Exception as error:
        raise construction_error(name, options, error) from error


def _reason(error: Exception) -> str:
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    packages = [p for p in _OLD_MUJOCO if any(f"{os.sep}{p}{os.sep}" in file for file in files)]
    kind = type(error).__name__
    if packages and isinstance(error, AssertionError | AttributeError):
        return (
            f"{packages[0]} fails with the installed mujoco {_mujoco_version()} ({kind} in "
            f"{Path(files[-1]).name}). Install 'mujoco<3.12' in a virtual environment for it."
        )
    return str(error) or f"{kind} in {Path(files[-1]).name if files else 'its constructor'}"


def _mujoco_version() -> str:
    try:
        return version("mujoco")
    except PackageNotFoundError:
        return "(none)"
