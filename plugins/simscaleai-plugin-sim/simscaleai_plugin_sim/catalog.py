"""Environments by name: our own, any that Gymnasium knows, and those of other plugins.

Importing this module registers our environments with Gymnasium, so that
``gymnasium.make("simscaleai_plugin_sim.catalog:SimScale/Reach-v0")`` works as well.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol, cast

import gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from simscaleai_core.errors import ConfigError, SimScaleError
from simscaleai_plugin_sim.processes import in_processes
from simscaleai_plugin_sim.tasks import TASKS, Task
from simscaleai_plugin_sim.unmade import unmade

Env = gymnasium.Env[Any, Any]
Expert = Callable[[Any], Any]

VECTORIZATIONS = ("native", "sync", "async")
"""Ways of running several environments: in one batch of their own, in turn, in processes."""


class Components(Protocol):
    """What other plugins offer; `simscaleai_core.registry` is one."""

    def component_names(self, kind: str) -> Iterable[str]:
        """Return the full ids, ``plugin/name``, of the components of a kind."""
        ...

    def create_env(self, name: str, **options: Any) -> Env:
        """Return the environment of that short name or full id."""
        ...


def make_env(name: str, *, components: Components | None = None, **options: Any) -> Env:
    """Return one environment by name.

    Args:
        name: One of our own (``"reach"``), a Gymnasium id (``"CartPole-v1"``,
            ``"module:EnvId-v0"``), or an environment of another plugin.
        components: Where to find environments of other plugins; None looks at what is installed.
        options: Passed to the environment. Ours take ``images`` (side of a camera image to add to
            the observation [pixels]), ``max_episode_steps`` and ``render_mode``.

    Returns:
        A Gymnasium environment.

    Raises:
        ConfigError: If nothing has that name, or the environment cannot be made with the options.

    Example:
        >>> env = make_env("reach")
        >>> observation, info = env.reset(seed=0)
        >>> observation["target_pos"].shape
        (3,)
        >>> env.close()
    """  # noqa: DOC501 - built by unmade
    task = _own(name)
    try:
        if task is not None:
            return gymnasium.make(task.env_id, disable_env_checker=True, **options)
        if ":" in name or name in gymnasium.registry:
            return gymnasium.make(name, disable_env_checker=True, **options)
        components = _installed() if components is None else components
        if any(name in _names_of(other) for other in _others(components)):
            return components.create_env(name, **options)
    except SimScaleError:
        raise
    except Exception as error:
        raise unmade(name, options, error) from error
    raise ConfigError(_unknown(name, components))


def make_vector_env(
    name: str,
    num_envs: int,
    *,
    vectorization: str | None = None,
    components: Components | None = None,
    **options: Any,
) -> VectorEnv[Any, Any, Any]:
    """Return `num_envs` environments as one vector environment that leaves resetting to the caller.

    Args:
        name: As for `make_env`.
        num_envs: Number of slots.
        vectorization: ``"native"``: one batch, as ours and few others offer; ``"sync"``: made
            `num_envs` times and stepped in turn; ``"async"``: each in a process of its own. None
            takes native for ours and sync for any other.
        components: As for `make_env`.
        options: As for `make_env`.

    Returns:
        A vector environment in ``AutoresetMode.DISABLED``.

    Raises:
        ConfigError: If nothing has that name, a number is out of range, or the environment does not
            offer that kind of vector.
    """  # noqa: DOC501 - built by unmade
    task = _own(name)
    kind = vectorization or ("native" if task is not None else "sync")
    if kind not in VECTORIZATIONS:
        raise ConfigError(
            f"vectorization: expected one of {', '.join(VECTORIZATIONS)}, got {vectorization!r}"
        )
    if num_envs < 1:
        raise ConfigError(f"num_envs: expected at least 1, got {num_envs}")
    try:
        if kind == "native":
            env_id = name if task is None else task.env_id
            return gymnasium.make_vec(
                env_id, num_envs, vectorization_mode="vector_entry_point", **options
            )
        build = partial(make_env, name, components=components, **options)
        if kind == "async":
            return in_processes(build, num_envs)
        return SyncVectorEnv([build] * num_envs, autoreset_mode=AutoresetMode.DISABLED)
    except SimScaleError:
        raise
    except Exception as error:
        raise unmade(name, options, error) from error


def default_num_envs(name: str, vectorization: str | None = None) -> int:
    """Return how many environments to run side by side, if nobody says.

    Args:
        name: As for `make_env`.
        vectorization: As for `make_vector_env`.

    Returns:
        32 in a native batch; 8 in turn, where more would only idle at the end; one per processor in
        processes.
    """
    if vectorization == "async":
        return os.cpu_count() or 1
    return 32 if vectorization in {None, "native"} and is_own(name) else 8


def is_own(name: str) -> bool:
    """Return whether a name is that of one of our environments."""
    return _own(name) is not None


def find_expert(name: str) -> Expert:
    """Return the scripted expert of an environment.

    Args:
        name: Name of one of our environments, or of one that another plugin declares an expert for.

    Returns:
        A function of a batched observation (each key `[N, ...]`) to actions `[N, A]`.

    Raises:
        ConfigError: If the environment has no expert here.
    """
    task = _own(name)
    if task is not None:
        return task().expert
    from simscaleai_core import registry

    expert: Expert | None = registry.find_expert(name)
    if expert is None:
        raise ConfigError(
            f"environment {name!r} has no scripted expert. Ours with one: "
            f"{', '.join(sorted(TASKS))}."
        )
    return expert


def env_rows(components: Components | None = None) -> list[dict[str, str]]:
    """Return one row of plain text per environment, for listings.

    Args:
        components: Where to find environments of other plugins; None looks at what is installed.

    Returns:
        Rows with ``name``, ``gymnasium_id``, ``expert`` and ``summary``.
    """
    components = _installed() if components is None else components
    rows = [
        {
            "name": task.name,
            "gymnasium_id": task.env_id,
            "expert": "yes",
            "summary": (task.__doc__ or "").strip().splitlines()[0],
        }
        for task in TASKS.values()
    ]
    return rows + [
        {"name": name, "gymnasium_id": "", "expert": "", "summary": ""}
        for name in _others(components)
    ]


def make_reach(**options: Any) -> Env:
    """Return the environment ``reach``; see `make_env`."""
    return make_env("reach", **options)


def make_pick_place(**options: Any) -> Env:
    """Return the environment ``pick_place``; see `make_env`."""
    return make_env("pick_place", **options)


def make_push(**options: Any) -> Env:
    """Return the environment ``push``; see `make_env`."""
    return make_env("push", **options)


def make_reach_language(**options: Any) -> Env:
    """Return the environment ``reach_language``; see `make_env`."""
    return make_env("reach_language", **options)


def make_pick_language(**options: Any) -> Env:
    """Return the environment ``pick_language``; see `make_env`."""
    return make_env("pick_language", **options)


def register() -> None:
    """Make our environments known to Gymnasium; safe to call twice."""
    for task in TASKS.values():
        if task.env_id not in gymnasium.registry:
            gymnasium.register(
                id=task.env_id,
                entry_point="simscaleai_plugin_sim.env:ArmEnv",
                vector_entry_point="simscaleai_plugin_sim.vector:ArmVectorEnv",
                max_episode_steps=task.max_episode_steps,
                kwargs={"task": task.name},
            )


def _own(name: str) -> type[Task] | None:
    """Return our task of that name, plugin-qualified name or Gymnasium id."""
    for task in TASKS.values():
        if name in {task.name, f"sim/{task.name}", task.env_id}:
            return task
    return None


def _installed() -> Components:
    # Only when a name is not ours: the core's registry loads every plugin.
    from simscaleai_core import registry

    return cast("Components", registry)


def _others(components: Components) -> list[str]:
    """Return the full ids of the environments of other plugins, sorted."""
    return sorted(full for full in components.component_names("env") if _own(full) is None)


def _names_of(full: str) -> tuple[str, str]:
    """Return the names that a component answers to: its full id and its short name."""
    return full, full.rpartition("/")[2]


def _unknown(name: str, components: Components) -> str:
    installed = sorted([*TASKS, *_others(components)])
    understood = [alias for full in installed for alias in _names_of(full)]
    close = difflib.get_close_matches(name, [*understood, *gymnasium.registry], n=1, cutoff=0.6)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return (
        f"unknown environment {name!r}. Installed: {', '.join(installed)}; any Gymnasium id such "
        f"as 'CartPole-v1' or 'module:EnvId-v0' works too.{hint}"
    )


register()
