"""A policy in front of slots: where episodes begin, what it is told, and how long it takes.

N: slots.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import perf_counter
from typing import Any

from numpy.typing import NDArray

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_sim.instructions import Instructions, LanguageRule
from simscaleai_plugin_sim.rollouts import Turn, as_numpy
from simscaleai_plugin_sim.slots import Slots

Predict = Callable[..., Any]

_IMAGE_NDIM = 3  # [H, W, 3]


class Actor:
    """Calls a policy turn by turn.

    Args:
        predict: Function of an observation to actions. If it is a method of an object with
            ``reset(mask)``, that is called whenever episodes begin; if it takes ``language``, it
            gets the instructions; if the object has ``hparams``, as a trained policy has,
            observations have the keys that a recording of them has: a plain array is ``state``
            (``image`` for an image), and keys of inner dictionaries are joined by an underscore.
        slots: Where the episodes run.
        seeds: Seed of each episode.
        language: An instruction for all, or a function of the environment's instruction and the
            episode's seed; None passes the environment's on.

    Raises:
        ConfigError: If an instruction is given, but the policy takes none.
    """

    def __init__(
        self,
        predict: Predict,
        slots: Slots,
        seeds: Sequence[int],
        language: str | LanguageRule | None = None,
    ) -> None:
        owner = getattr(predict, "__self__", None)
        reset = getattr(owner, "reset", None)
        self._predict = predict
        self._reset = reset if callable(reset) else None
        self._is_policy = hasattr(owner, "hparams")
        self._slots = slots
        self._instructions = None
        if takes_language(predict):
            self._instructions = Instructions(slots, seeds, language)
        elif language is not None:
            raise ConfigError(
                f"language {language!r} cannot be told: expected a predict that takes 'language', "
                f"got {_signature(predict)}. Leave language out, or evaluate a policy that listens."
            )
        self.call_s: list[float] = []
        """Time of each call of the policy so far [s]."""

    @property
    def instructions(self) -> list[str] | None:
        """What the policy was told at the start of each episode; None if nothing."""
        known = self._instructions is not None and self._instructions.is_known
        return self._instructions.by_episode if known and self._instructions else None

    def __call__(self, observation: Any, turn: Turn) -> NDArray[Any]:
        """Return the actions of one turn, `[A]` or `[N, A]`."""
        if self._reset is not None and turn.starts.any():
            self._reset(turn.starts.copy())
        told = self._told(turn)
        if self._is_policy:
            observation = self._as_recorded(observation)
        started = perf_counter()
        actions = as_numpy(self._predict(observation, **told))
        self.call_s.append(perf_counter() - started)
        return actions

    def _told(self, turn: Turn) -> dict[str, Any]:
        """Return the keyword that carries the instructions, if there are any."""
        if self._instructions is None:
            return {}
        texts = self._instructions.of(turn)
        if not self._instructions.is_known:
            return {}
        return {"language": texts if self._slots.is_batched else texts[0]}

    def _as_recorded(self, observation: Any) -> Mapping[str, Any]:
        if not isinstance(observation, Mapping):
            ndim = getattr(observation, "ndim", 1) - self._slots.is_batched
            return {"image" if ndim == _IMAGE_NDIM else "state": observation}
        if any(isinstance(value, Mapping) for value in observation.values()):
            return dict(_flat(observation))
        return observation


def _flat(observation: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in observation.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}_")
        else:
            yield f"{prefix}{key}", value


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
    owner = getattr(predict, "__self__", None)
    choose = getattr(owner, "set_execution", None)
    if choose is None:
        name = type(owner).__name__ if owner is not None else _signature(predict)
        raise ConfigError(
            f"execute={execute}, ensemble={ensemble}: expected a policy that predicts chunks of "
            f"actions, with set_execution, got {name}. Leave them out."
        )
    choose(execute=execute, ensemble=ensemble)


def takes_language(predict: Predict) -> bool:
    """Return whether a policy's ``predict`` has an argument ``language``."""
    try:
        return "language" in inspect.signature(predict).parameters
    except (TypeError, ValueError):  # a builtin without a signature
        return False


def _signature(predict: Predict) -> str:
    return str(getattr(predict, "__qualname__", type(predict).__name__))
