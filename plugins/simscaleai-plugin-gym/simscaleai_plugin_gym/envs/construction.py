"""Environments built from their names, one or many at a time, or an error that says why not."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from simscaleai_core.errors import ConfigError, SimScaleError
from simscaleai_core.host.lookup import import_target
from simscaleai_plugin_gym.envs.catalog import find_declared, has_native_batch, spec_of, unknown_env
from simscaleai_plugin_gym.envs.checked import CheckedEnv
from simscaleai_plugin_gym.envs.failures import Place, timed_out
from simscaleai_plugin_gym.envs.graphics import choose_graphics
from simscaleai_plugin_gym.envs.limits import TimeLimitReached, limited
from simscaleai_plugin_gym.envs.processes import ProcessVectorEnv
from simscaleai_plugin_gym.options import ENV_TIMEOUT_S, VECTORIZATIONS, check_ranges

if TYPE_CHECKING:
    from simscaleai_core.host.facade import Host
    from simscaleai_core.host.records import Component

Env = gymnasium.Env[Any, Any]

_NUM_ENVS_NATIVE = 32
_NUM_ENVS_SYNC = 8  # in turn, where more would only idle at the end

_OLD_MUJOCO = ("gymnasium_robotics", "metaworld", "robosuite")
"""Packages whose checks of joint types fail from mujoco 3.12 on."""


def make_env(
    name: str, *, host: Host | None = None, env_timeout_s: float = ENV_TIMEOUT_S, **options: Any
) -> Env:
    """Return one environment by name.

    Args:
        name: Name of an environment that a plugin declares (``"lift"``, ``"acme/lift"``), or a
            Gymnasium id (``"CartPole-v1"``, ``"module:EnvId-v0"``).
        host: Knows the plugins; those that are installed if None.
        env_timeout_s: Time that building it may take [s], see `limits`.
        options: Passed to the environment.

    Returns:
        A Gymnasium environment.

    Raises:
        ConfigError: If nothing has that name, or the environment cannot be built with the options.
        EnvError: If building it takes too long.

    Example:
        >>> env = make_env("CartPole-v1", max_episode_steps=20)
        >>> observation, info = env.reset(seed=0)
        >>> observation.shape
        (4,)
        >>> env.close()
    """
    check_ranges({"env_timeout_s": env_timeout_s})
    return _build(name, find_env(name, host), options, env_timeout_s)


def make_vector_env(
    name: str,
    num_envs: int,
    *,
    vectorization: str | None = None,
    host: Host | None = None,
    env_timeout_s: float = ENV_TIMEOUT_S,
    **options: Any,
) -> VectorEnv[Any, Any, Any]:
    """Return `num_envs` environments as one vector environment that leaves resetting to the caller.

    Whatever an environment of it does wrong is an `EnvError` with name, seed and step.

    Args:
        name: As for `make_env`.
        num_envs: Number of environments.
        vectorization: ``"native"``: one batch that the environment brings; ``"sync"``: built
            `num_envs` times and stepped in turn; ``"async"``: each in a process of its own. None
            takes native where a plugin declares a batch, and sync otherwise.
        host: As for `make_env`.
        env_timeout_s: Time that building each environment, one reset and one step of it may take
            [s]; of all together in a native batch. See `limits` for what cannot be interrupted.
        options: As for `make_env`.

    Returns:
        A vector environment in ``AutoresetMode.DISABLED``.

    Raises:
        ConfigError: If nothing has that name, a number is out of range, or the environment does not
            offer that kind of vector.
        EnvError: If building it takes too long.
    """
    check_ranges({"num_envs": num_envs, "env_timeout_s": env_timeout_s})
    declared = find_env(name, host)
    kind = vectorization
    if kind is None:
        kind = "native" if has_native_batch(declared) else "sync"
    if kind not in VECTORIZATIONS:
        raise ConfigError(
            f"vectorization: expected one of {', '.join(VECTORIZATIONS)}, got {vectorization!r}"
        )
    if kind == "native":
        env_id = name if declared is None else spec_of(declared).env_id or name
        batch = partial(
            gymnasium.make_vec, env_id, num_envs, vectorization_mode="vector_entry_point"
        )
        return _made(name, batch, options, env_timeout_s)  # type: ignore[no-any-return]
    build = partial(_build_checked, name, declared, options, env_timeout_s)
    if kind == "async":
        in_processes = partial(ProcessVectorEnv, name, build, num_envs, env_timeout_s)
        return _made(name, in_processes, {}, None)  # type: ignore[no-any-return]
    return _in_turn(name, build, num_envs)


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


def construction_error(name: str, options: Mapping[str, Any], error: BaseException) -> ConfigError:
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


def find_env(name: str, host: Host | None = None) -> Component | None:
    """Return the declared environment of a name, or None if it is Gymnasium's.

    Args:
        name: As for `make_env`.
        host: As for `make_env`.

    Raises:
        ConfigError: If nothing has that name.
    """  # noqa: DOC501 - built by unknown_env
    declared = find_declared(name, host)
    if declared is None and ":" not in name and name not in gymnasium.registry:
        raise unknown_env(name, gymnasium.registry, host)
    return declared


def _build(
    name: str, declared: Component | None, options: Mapping[str, Any], limit_s: float
) -> Env:
    """Return one environment.

    Raises:
        ConfigError: If it cannot be built, or is none.
    """
    target = (
        partial(gymnasium.make, name, disable_env_checker=True)
        if declared is None
        else partial(_declared_target, declared)
    )
    choose_graphics(options.get("render_mode"))
    made: Env = _made(name, target, options, limit_s)
    if not isinstance(made, gymnasium.Env) or not _has_spaces(made):
        raise ConfigError(
            f"environment {name!r} cannot be made: expected a Gymnasium environment with "
            f"observation_space and action_space, got {type(made).__name__}. Fix its target."
        )
    return made


def _declared_target(declared: Component, **options: Any) -> Any:
    return import_target(declared)(**options)


def _build_checked(
    name: str, declared: Component | None, options: Mapping[str, Any], limit_s: float
) -> Env:
    """Return one environment whose results are checked; processes of their own call this too."""
    return CheckedEnv(_build(name, declared, options, limit_s), name, limit_s)


def _in_turn(name: str, build: Callable[[], Env], num_envs: int) -> VectorEnv[Any, Any, Any]:
    """Return environments that are stepped in turn; if one cannot be built, the others close."""
    envs: list[Env] = []
    try:
        for _ in range(num_envs):
            envs.append(build())
        in_turn = partial(
            SyncVectorEnv,
            [partial(_same, env) for env in envs],
            autoreset_mode=AutoresetMode.DISABLED,
        )
        made: VectorEnv[Any, Any, Any] = _made(name, in_turn, {}, None)
    except BaseException:
        for env in envs:
            env.close()
        raise
    return made


def _same(env: Env) -> Env:
    return env


def _has_spaces(env: Env) -> bool:
    spaces = (getattr(env, "observation_space", None), getattr(env, "action_space", None))
    return all(isinstance(space, gymnasium.Space) for space in spaces)


def _made(
    name: str, make: Callable[..., Any], options: Mapping[str, Any], limit_s: float | None
) -> Any:
    """Return what a constructor makes.

    Args:
        name: Name of the environment.
        make: The constructor.
        options: What it is given.
        limit_s: Time that it may take [s]; None for one that has limits of its own.

    Raises:
        ConfigError: If it fails.
        EnvError: If its time is up.
    """  # noqa: DOC501 - built by others
    try:
        return make(**options) if limit_s is None else limited(limit_s, make, **options)
    except (SimScaleError, KeyboardInterrupt):
        raise
    except TimeLimitReached:
        raise timed_out(Place(name, "its construction"), limit_s or 0.0) from None
    except BaseException as error:
        raise construction_error(name, options, error) from error


def _reason(error: BaseException) -> str:
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    packages = [name for name in _OLD_MUJOCO if _is_of(name, files)]
    kind = type(error).__name__
    if packages and isinstance(error, AssertionError | AttributeError):
        return (
            f"{packages[0]} fails with the installed mujoco {_mujoco_version()} ({kind} in "
            f"{Path(files[-1]).name}). Install 'mujoco<3.12' in a virtual environment for it."
        )
    text = "" if isinstance(error, SystemExit) else " ".join(str(error).split())
    return text or f"{kind} in {Path(files[-1]).name if files else 'its constructor'}"


def _is_of(package: str, files: Sequence[str]) -> bool:
    """Return whether one of some files is an installed package's; a folder's name says little."""
    try:
        place = Path(str(distribution(package).locate_file(package))).resolve()
    except PackageNotFoundError:
        return False
    return any(Path(file).resolve().is_relative_to(place) for file in files)


def _mujoco_version() -> str:
    try:
        return version("mujoco")
    except PackageNotFoundError:
        return "(none)"
