"""Experts by name: a user's own function, in a module or a file, for a batch or for one.

N: environments, A: dimensions of an action.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simscaleai_core.errors import ConfigError, SimScaleError
from simscaleai_core.host.facade import Host
from simscaleai_plugin_gym.envs.adapter import select
from simscaleai_plugin_gym.envs.catalog import Expert, find_expert
from simscaleai_plugin_gym.envs.named_code import check_callable, check_module, search_here

Array = NDArray[Any]

SCRIPTED = "scripted"
"""Name of the expert that an environment brings along."""


class ExpertError(SimScaleError):
    """An expert that failed, or gave what is no action.

    Attributes:
        expert: Its name.
        seeds: Seeds of the episodes that it may have failed at.
    """

    def __init__(self, message: str, *, expert: str, seeds: tuple[int, ...]) -> None:
        """Keep the name and the seeds beside the message."""
        super().__init__(message)
        self.expert = expert
        self.seeds = seeds

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with the keyword data, so that a process can hand it over."""
        return (_rebuild_error, (str(self), self.expert, self.seeds))


def _rebuild_error(message: str, expert: str, seeds: tuple[int, ...]) -> ExpertError:
    return ExpertError(message, expert=expert, seeds=seeds)


class SubEnvError(Exception):
    """An expert for a single environment that failed; the cause is the error itself.

    Attributes:
        index: Which of the environments.
    """

    def __init__(self, index: int) -> None:
        """Keep the index."""
        super().__init__(f"environment {index}")
        self.index = index


class PerEnv:
    """An expert for one observation at a time, as an expert for a batch; see `per_env`.

    Args:
        policy: A function of one observation to one action `[A]`, or a class whose instances are
            such functions.
    """

    def __init__(self, policy: Callable[..., Any]) -> None:
        self._policy = policy
        self._policies: dict[int, Callable[[Any], Any]] = {}
        self.__name__ = _called(policy)
        self.__module__ = getattr(policy, "__module__", type(policy).__module__)
        self.__doc__ = policy.__doc__

    def __reduce__(self) -> str | tuple[object, ...]:
        """Pickle by name where this has taken the place of what it decorates."""
        module = sys.modules.get(self.__module__)
        is_global = getattr(module, self.__name__, None) is self
        return self.__name__ if is_global else (PerEnv, (self._policy,))

    def reset(self, mask: NDArray[np.bool_]) -> None:
        """Drop the instances of the environments of the mask `[N]`: new episodes begin there."""
        for index in np.flatnonzero(mask).tolist():
            self._policies.pop(index, None)

    def __call__(self, observation: Mapping[str, Any]) -> Array:
        """Return actions `[N, A]` for a batched observation, each key `[N, ...]`.

        Raises:
            SubEnvError: If the policy fails in one of the environments.
        """
        num_envs = len(_first_leaf(observation))
        return np.stack([self._act(index, select(observation, index)) for index in range(num_envs)])

    def _act(self, index: int, observation: Any) -> Array:
        try:
            if index not in self._policies:
                is_class = inspect.isclass(self._policy)
                self._policies[index] = self._policy() if is_class else self._policy
            return np.asarray(self._policies[index](observation))
        except Exception as error:
            raise SubEnvError(index) from error


def per_env(policy: Callable[..., Any]) -> PerEnv:
    """Return an expert for a batch, made of one for a single observation; works as a decorator.

    Args:
        policy: A function of one observation (a dict of arrays without the batch's dimension, such
            as ``{"state": [D]}``) to one action `[A]`. Or a class, for an expert that remembers:
            each episode gets an instance of its own, made without arguments and called likewise.

    Returns:
        The expert for a batch.

    Example:
        >>> @per_env
        ... def expert(observation):
        ...     return -observation["state"][:2]
        >>> expert({"state": np.ones((3, 5))}).shape
        (3, 2)
    """
    return PerEnv(policy)


per_slot = per_env
"""The name of `per_env` in version 0.1."""


def relabelling_of(expert: Expert) -> Callable[[Any], Any] | None:
    """Return an expert's method that acts under the other instructions, or None.

    Args:
        expert: An expert; its method ``relabelled`` is looked for, then ``retold``, the name of
            version 0.1.

    Returns:
        A function of a batched observation to pairs: another instruction for each environment
        `[N]`, and actions under it `[N, A]`, NaN where the expert does not know what to do.
    """
    method = getattr(expert, "relabelled", None) or getattr(expert, "retold", None)
    return method if callable(method) else None


def load_expert(
    env: str, expert: str | Expert | None, *, single: bool = False, host: Host | None = None
) -> Expert:
    """Return an expert.

    Args:
        env: Environment whose own expert to take if no other is named.
        expert: ``"module:function"``, ``"./file.py:function"``, a function, or None.
        single: Whether it handles one observation at a time.
        host: Knows the plugins; those that are installed if None.

    Returns:
        A function of a batched observation, each key `[N, ...]`, to actions `[N, A]`.

    Raises:
        ConfigError: If there is no such expert, or the environment has none of its own.
    """
    if expert is None:
        if single:
            raise ConfigError("expert_single: expected an expert of your own, got none")
        return find_expert(env, host)
    found = _imported(expert) if isinstance(expert, str) else expert
    if isinstance(expert, str) and not (single and inspect.isclass(found)):
        check_callable(f"expert {expert!r}", found, ("observation",), exactly=False)
    is_single = single and not isinstance(found, PerEnv)
    return per_env(found) if is_single else found


def expert_name(expert: str | Expert | None) -> str:
    """Return what an expert is called in files and messages."""
    if expert is None or isinstance(expert, str):
        return expert or SCRIPTED
    return f"{getattr(expert, '__module__', '?')}:{_called(expert)}"


def source_digest(expert: Expert) -> str:
    """Return the SHA-256 of the file that an expert is written in, or "" if there is none."""
    module = sys.modules.get(str(getattr(expert, "__module__", type(expert).__module__)))
    path = getattr(module, "__file__", None)
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else ""


def _imported(text: str) -> Expert:
    """Import what a text names.

    Returns:
        The expert.

    Raises:
        ConfigError: If that fails.
    """
    where, colon, attribute = text.rpartition(":")
    if not colon or not where or not attribute:
        raise ConfigError(
            f"expert {text!r}: expected 'module:function' or './file.py:function', got {text!r}"
        )
    if not where.endswith(".py"):
        check_module(f"expert {text!r}", where)
    try:
        module = _from_file(Path(where)) if where.endswith(".py") else _from_path(where)
        found: Expert = getattr(module, attribute)
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"expert {text!r} cannot be imported: {type(error).__name__}: {error}. Check the name, "
            "and that it can be imported from here."
        ) from error
    return found


def _from_path(name: str) -> Any:
    search_here()  # a console script does not look here at all
    return importlib.import_module(name)


def _from_file(path: Path) -> Any:
    path = path.resolve(strict=True)
    name = f"simscale_expert_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _called(thing: Any) -> str:
    return str(getattr(thing, "__qualname__", getattr(thing, "__name__", type(thing).__name__)))


def _first_leaf(observation: Any) -> Any:
    while isinstance(observation, Mapping):
        observation = next(iter(observation.values()))
    return observation
