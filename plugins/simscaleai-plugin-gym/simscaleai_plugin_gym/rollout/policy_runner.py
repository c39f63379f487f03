"""A policy as the caller of environments: resets, instructions, and the time of its calls.

N: environments (`num_envs`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simscaleai_core.errors import ConfigError
from simscaleai_core.seeding import stream_seed
from simscaleai_plugin_gym.envs.adapter import EnvAdapter
from simscaleai_plugin_gym.envs.observations import flatten, key_of_array
from simscaleai_plugin_gym.rollout.instructions import Instructions, LanguageRule
from simscaleai_plugin_gym.rollout.rollouts import StepContext, as_numpy

Predict = Callable[..., Any]


class PolicyRunner:
    """Calls a policy step by step.

    Args:
        predict: Function of an observation to actions. If it is a method of an object with
            ``reset(mask)``, that is called whenever episodes begin, with the seeds of the episodes
            `[N]` if it takes ``seeds``; if it takes ``language``, it gets the instructions; if the
            object has ``hparams``, as a trained policy has,
            observations have the keys that a recording of them has: a plain array is ``state``
            (``image`` for an image), and keys of inner dictionaries are joined by an underscore.
        adapter: Where the episodes run.
        seeds: Seed of each episode.
        language: An instruction for all, or a function of the environment's instruction and the
            episode's seed; None passes the environment's on.
        policy_seeds: Seed of the policy's own randomness in each episode, see `own_seed`; None for
            0 in all.

    Raises:
        ConfigError: If an instruction is given, but the policy takes none.
    """

    def __init__(
        self,
        predict: Predict,
        adapter: EnvAdapter,
        seeds: Sequence[int],
        language: str | LanguageRule | None = None,
        policy_seeds: Sequence[int] | None = None,
    ) -> None:
        owner = getattr(predict, "__self__", None)
        reset = getattr(owner, "reset", None)
        self._predict = predict
        self._reset = reset if callable(reset) else None
        self._seeds = None
        if self._reset is not None and _takes(self._reset, "seeds"):
            pairs = zip(seeds, policy_seeds or [0] * len(seeds), strict=True)
            self._seeds = np.array([own_seed(*pair) for pair in pairs], dtype=np.int64)
        self._is_policy = hasattr(owner, "hparams")
        self._adapter = adapter
        self._instructions = None
        if takes_language(predict):
            self._instructions = Instructions(adapter, seeds, language)
        elif language is not None:
            raise ConfigError(
                f"language {language!r} cannot be used: expected a predict that takes 'language', "
                f"got {_signature(predict)}. Leave language out, or evaluate a policy that takes "
                "it."
            )
        self.call_s: list[float] = []
        """Time of each call of the policy so far [s]."""

    @property
    def instructions(self) -> list[str] | None:
        """The instruction at the start of each episode; None if there is none."""
        known = self._instructions is not None and self._instructions.is_known
        return self._instructions.by_episode if known and self._instructions else None

    def __call__(self, observation: Any, context: StepContext) -> NDArray[Any]:
        """Return the actions of one step, `[A]` or `[N, A]`."""
        if self._reset is not None and context.starts.any():
            # An idle environment runs the first episode once more.
            own = [] if self._seeds is None else [self._seeds[np.maximum(context.episode, 0)]]
            self._reset(context.starts.copy(), *own)
        keywords = self._keywords(context)
        if self._is_policy:
            observation = self._as_recorded(observation)
        started = perf_counter()
        actions = as_numpy(self._predict(observation, **keywords))
        self.call_s.append(perf_counter() - started)
        return actions

    def _keywords(self, context: StepContext) -> dict[str, Any]:
        """Return the keyword that carries the instructions, if there are any."""
        if self._instructions is None:
            return {}
        texts = self._instructions.update(context)
        if not self._instructions.is_known:
            return {}
        return {"language": texts if self._adapter.is_batched else texts[0]}

    def _as_recorded(self, observation: Any) -> Mapping[str, Any]:
        if not isinstance(observation, Mapping):
            ndim = getattr(observation, "ndim", 1) - self._adapter.is_batched
            return {key_of_array(ndim, getattr(observation, "dtype", None)): observation}
        return flatten(observation)


def own_seed(seed: int, policy_seed: int) -> int:
    """Return the seed of a policy's own randomness in an episode.

    Args:
        seed: Seed of the episode, at least 0.
        policy_seed: Which of many independent runs of the policy in that episode; with 0 it is the
            episode's seed itself, if that is below 2**63.

    Returns:
        A seed in [0, 2**63).
    """
    is_plain = policy_seed == 0 and seed < 2**63
    return seed if is_plain else stream_seed(policy_seed, "policy", seed)


def set_execution(predict: Predict, execute: int | None, ensemble: float | None) -> None:
    """Choose how a policy executes the chunks of actions that it predicts.

    Args:
        predict: Its method ``predict``.
        execute: Steps of a chunk to execute before the next is predicted; None leaves it.
        ensemble: Coefficient of temporal ensembling [unitless]; None is off.

    Raises:
        ConfigError: If something is chosen and the policy has no choice.
    """
    if execute is None and ensemble is None:
        return
    given = f"execute={execute}, ensemble={ensemble}"
    wanted = f"{given}: expected a policy that predicts chunks of actions"
    _setter(predict, "set_execution", wanted, "Leave them out.")(execute=execute, ensemble=ensemble)


def set_source(predict: Predict, name: str | None) -> None:
    """Choose in whose units a policy acts that has statistics by source of its training data.

    Args:
        predict: Its method ``predict``.
        name: Name of the source; None leaves it.

    Raises:
        ConfigError: If a source is named and the policy has no choice.
    """
    if name is None:
        return
    wanted = f"source={name!r}: expected a policy with statistics by source"
    _setter(predict, "set_source", wanted, "Leave it out.")(name)


def _setter(predict: Predict, method: str, wanted: str, advice: str) -> Callable[..., Any]:
    """Return a method of a policy, or say that the policy has no such choice."""
    owner = getattr(predict, "__self__", None)
    choose: Callable[..., Any] | None = getattr(owner, method, None)
    if choose is None:
        name = type(owner).__name__ if owner is not None else _signature(predict)
        raise ConfigError(f"{wanted}, with {method}, got {name}. {advice}")
    return choose


def takes_language(predict: Predict) -> bool:
    """Return whether a policy's ``predict`` has an argument ``language``."""
    return _takes(predict, "language")


def _takes(call: Callable[..., Any], argument: str) -> bool:
    try:
        return argument in inspect.signature(call).parameters
    except (TypeError, ValueError):  # a builtin without a signature
        return False


def _signature(predict: Predict) -> str:
    return str(getattr(predict, "__qualname__", type(predict).__name__))
