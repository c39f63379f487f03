"""One interface to single and vector environments, which are reset by mask and seed.

N: environments (`num_envs`); a single environment has N = 1 and no batch dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import gymnasium
import numpy as np
from attrs import frozen
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_gym.envs.checked import CheckedEnv
from simscaleai_plugin_gym.envs.failures import RESET, STEP, EnvError, Place, batch_limit, call_env
from simscaleai_plugin_gym.envs.processes import ask, end_processes, original, silent_process
from simscaleai_plugin_gym.envs.results import check_reset, check_step
from simscaleai_plugin_gym.options import ENV_TIMEOUT_S

Mask = NDArray[np.bool_]
Infos = Mapping[str, Any]


@frozen
class Transition:
    """What one step gave in every environment."""

    observation: Any
    """Observation after the step, as the environment gives it."""
    reward: NDArray[np.float64]
    """Reward `[N]`."""
    terminated: Mask
    """Whether the task ended the episode `[N]`."""
    truncated: Mask
    """Whether a limit ended the episode `[N]`."""
    infos: Infos
    """Info, as the environment gives it."""


class EnvAdapter(Protocol):
    """A single or a vector environment, as N environments."""

    name: str
    """Name of the environment, for messages."""
    num_envs: int
    """Number of environments N."""
    is_batched: bool
    """Whether observations and actions have a leading dimension of N."""
    action_space: gymnasium.Space[Any]
    """Space of what `step` takes."""
    hold: int
    """Steps for which each action of a policy is held."""

    def reset(self, seeds: Sequence[int], mask: Mask) -> tuple[Any, Infos]:
        """Return observation and infos, after episodes began where the mask `[N]` is true."""
        ...

    def step(self, actions: Any) -> Transition:
        """Return what one step gives in every environment."""
        ...

    def reported(self, infos: Infos, key: str) -> tuple[Any, Mask]:
        """Return a key's values, one per environment, and where `[N]` it was reported."""
        ...

    def query(self, name: str) -> Sequence[Any] | None:
        """Return an attribute of each environment, called if it can be; None if there is none."""
        ...

    def physics_s(self) -> float | None:
        """Return the time that physics has taken so far [s], or None if that is not counted."""
        ...

    def transition_at(self, transition: Transition, index: int) -> tuple[Any, ...]:
        """Return one environment's ``(observation, reward, terminated, truncated, info)``."""
        ...


class SingleEnvAdapter:
    """One Gymnasium environment.

    Args:
        env: The environment.
        limit_s: Time that one call of it may take [s].
    """

    num_envs = 1
    is_batched = False
    hold = 1

    def __init__(self, env: gymnasium.Env[Any, Any], limit_s: float = ENV_TIMEOUT_S) -> None:
        self.name = name_of(env)
        self._env = CheckedEnv(env, self.name, limit_s)
        self.action_space: gymnasium.Space[Any] = env.action_space

    def reset(self, seeds: Sequence[int], mask: Mask) -> tuple[Any, Infos]:  # noqa: ARG002
        """Return the first observation and info of a new episode."""
        return self._env.reset(seed=seeds[0])

    def step(self, actions: Any) -> Transition:
        """Return what one step gives."""
        observation, reward, terminated, truncated, info = self._env.step(actions)
        return Transition(
            observation,
            np.array([reward], dtype=np.float64),
            np.array([terminated], dtype=np.bool_),
            np.array([truncated], dtype=np.bool_),
            info,
        )

    def reported(self, infos: Infos, key: str) -> tuple[Any, Mask]:
        """Return the key's value as a list of one, and whether it was reported `[1]`."""
        return [infos.get(key)], np.array([key in infos])

    def query(self, name: str) -> Sequence[Any] | None:
        """Return the attribute, called if it can be, as a list of one; None if there is none."""
        if not self._env.has_wrapper_attr(name):
            return None
        found = self._env.get_wrapper_attr(name)
        return [found() if callable(found) else found]

    def physics_s(self) -> float | None:
        """Return the time that physics has taken so far [s], or None if that is not counted."""
        return _physics_s(self._env)

    def transition_at(self, transition: Transition, index: int) -> tuple[Any, ...]:
        """Return the transition as ``env.step`` gave it."""
        return (
            transition.observation,
            float(transition.reward[index]),
            bool(transition.terminated[index]),
            bool(transition.truncated[index]),
            transition.infos,
        )


class VectorEnvAdapter:
    """A Gymnasium vector environment.

    Args:
        env: The environment, in ``AutoresetMode.DISABLED``.
        limit_s: Time that one call of one environment may take [s]; of all in a native batch.

    Raises:
        ConfigError: If the environment resets itself: the seed of an episode could not be chosen,
            and some of its steps would not be transitions.
    """

    is_batched = True
    hold = 1

    def __init__(self, env: VectorEnv[Any, Any, Any], limit_s: float = ENV_TIMEOUT_S) -> None:
        mode = env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        if mode != AutoresetMode.DISABLED:
            raise ConfigError(
                f"the vector environment {name_of(env)!r} resets itself: expected "
                f"AutoresetMode.DISABLED, got {mode}. Build it with make_vector_env(name, "
                "num_envs), or pass autoreset_mode=AutoresetMode.DISABLED to SyncVectorEnv."
            )
        self._env = env
        self.name = name_of(env)
        self.num_envs = env.num_envs
        self._batch = (env.num_envs,)
        self._limit_s = batch_limit(env, limit_s)
        self._seeds = [0] * env.num_envs
        self._steps = np.zeros(env.num_envs, dtype=np.int64)
        self._space: gymnasium.Space[Any] = env.observation_space
        self.action_space: gymnasium.Space[Any] = env.action_space

    def reset(self, seeds: Sequence[int], mask: Mask) -> tuple[Any, Infos]:
        """Return observation and infos, after episodes began where the mask `[N]` is true."""
        for index in np.flatnonzero(mask).tolist():
            self._seeds[index] = seeds[index]
        self._steps[mask] = 0
        began: tuple[Any, Infos] = self._call(RESET, self._reset, list(seeds), mask, mask=mask)
        return began

    def step(self, actions: Any) -> Transition:
        """Return what one step gives in every environment."""
        self._steps += 1
        return Transition(*self._call(STEP, self._take_step, actions))

    def reported(self, infos: Infos, key: str) -> tuple[Any, Mask]:
        """Return the key's values, one per environment, and where `[N]` it was reported."""
        if key not in infos:
            return None, np.zeros(self.num_envs, dtype=np.bool_)
        values = infos[key]
        if isinstance(values, Mapping):
            return self.reported(values, "task")
        everywhere = np.ones(self.num_envs, dtype=np.bool_)
        return values, np.asarray(infos.get(f"_{key}", everywhere), dtype=np.bool_)

    def query(self, name: str) -> Sequence[Any] | None:
        """Return an attribute of each environment, called if it can be; None if there is none."""
        call = getattr(self._env, "call", None)
        if call is None or not all(self._call(name, call, "has_wrapper_attr", name)):
            return None
        answers: Sequence[Any] = self._call(f"{name}()", call, name)
        return answers

    def physics_s(self) -> float | None:
        """Return the time that physics has taken so far [s], or None if that is not counted."""
        return _physics_s(self._env)

    def transition_at(self, transition: Transition, index: int) -> tuple[Any, ...]:
        """Return one environment's part of the transition."""
        return (
            select(transition.observation, index),
            float(transition.reward[index]),
            bool(transition.terminated[index]),
            bool(transition.truncated[index]),
            info_at(transition.infos, index),
        )

    def _reset(self, seeds: list[int], mask: Mask) -> tuple[Any, Infos]:
        # The mask goes in a fresh dict, because SyncVectorEnv takes it out.
        result = self._env.reset(seed=seeds, options={"reset_mask": mask.copy()})  # type: ignore[arg-type]
        return check_reset(result, self._space, self._batch)

    def _take_step(self, actions: Any) -> Any:
        return check_step(self._env.step(actions), self._space, self._batch)

    def _call(
        self, what: str, call: Callable[..., Any], *values: Any, mask: Mask | None = None
    ) -> Any:
        """Return what a call gives; if it fails, no process is left."""
        try:
            place = partial(self._place, what, mask)
            return call_env(place, self._limit_s, ask, self._env, call, *values)
        except EnvError as error:
            end_processes(self._env)
            raise original(error) from error.__cause__
        except BaseException:  # Ctrl-C; what a process answers now would be taken for the next
            end_processes(self._env)
            raise

    def _place(self, what: str, mask: Mask | None, index: int | None) -> Place:
        if index is None:
            index = silent_process(self._env)
        chosen = range(self.num_envs) if index is None else [index]
        episodes = [
            (self._seeds[each], int(self._steps[each]))
            for each in chosen
            if mask is None or mask[each]
        ]
        return Place(self.name, what, episodes)


def adapt_env(env: Any, limit_s: float = ENV_TIMEOUT_S) -> EnvAdapter:
    """Return an adapter of an environment.

    Args:
        env: A Gymnasium environment or vector environment.
        limit_s: Time that one call of one environment may take [s].

    Raises:
        ConfigError: If it is neither, or a vector environment that resets itself.
    """
    if isinstance(env, VectorEnv):
        return VectorEnvAdapter(env, limit_s)
    if isinstance(env, gymnasium.Env):
        return SingleEnvAdapter(env, limit_s)
    raise ConfigError(
        f"env: expected a Gymnasium environment, a vector environment or a name, got "
        f"{type(env).__name__}. Build one with make_env(name) or make_vector_env(name, num_envs)."
    )


def _physics_s(env: Any) -> float | None:
    counted = getattr(env.unwrapped, "physics_s", None)
    return None if counted is None else float(counted)


def name_of(env: Any) -> str:
    """Return the name of an environment or a vector environment, for messages."""
    inner = env.unwrapped
    for known in (env, inner, *getattr(inner, "envs", ())[:1]):
        if hasattr(known, "env_name"):
            return str(known.env_name)
    spec = getattr(env, "spec", None)
    return type(inner).__name__ if spec is None else str(spec.id)


def select(value: Any, index: int) -> Any:
    """Return one environment's part of a batch: an array, or a mapping or tuple of batches.

    Args:
        value: Batch, each array `[N, ...]`.
        index: Which environment, from 0.
    """
    if isinstance(value, Mapping):
        return {key: select(entry, index) for key, entry in value.items()}
    if isinstance(value, tuple):
        return tuple(select(entry, index) for entry in value)
    return value[index]


def info_at(infos: Infos, index: int) -> dict[str, Any]:
    """Return the info of one environment, without the keys that it did not report.

    Args:
        infos: Info of a vector environment.
        index: Which environment, from 0.
    """
    info: dict[str, Any] = {}
    for key, value in infos.items():
        if isinstance(value, Mapping):
            info[key] = info_at(value, index)
        elif not (key.startswith("_") and key[1:] in infos) and _is_reported(infos, key, index):
            info[key] = value[index]
    return info


def _is_reported(infos: Infos, key: str, index: int) -> bool:
    present = infos.get(f"_{key}")
    return present is None or bool(present[index])
