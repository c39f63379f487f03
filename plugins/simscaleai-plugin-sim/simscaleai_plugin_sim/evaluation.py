"""Closed-loop evaluation: a policy, an environment, a fixed list of seeds, and what came out."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from attrs import Attribute, field, frozen

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_sim.catalog import make_vector_env
from simscaleai_plugin_sim.intervals import wilson
from simscaleai_plugin_sim.rollouts import Act, Step, Turn, run_episodes
from simscaleai_plugin_sim.slots import Slots, as_slots
from simscaleai_plugin_sim.success import SuccessReader, SuccessRule

Predict = Callable[[Any], Any]

DEFAULT_NUM_ENVS = 32
"""Slots for an environment that is given by name."""


def _at_least(least: int, *, optional: bool = False) -> Any:
    def check(instance: object, attribute: Attribute[Any], value: Any) -> None:
        if optional and value is None:
            return
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ConfigError(
                f"{type(instance).__name__}.{attribute.name}: expected an integer of at least "
                f"{least}, got {value!r}"
            )

    return check


@frozen(kw_only=True)
class EvalConfig:
    """How a policy is evaluated.

    Raises:
        ConfigError: If a number is out of range.
    """

    n_episodes: int = field(default=10, validator=_at_least(1))
    """Episodes to run."""
    seed: int = field(default=10_000, validator=_at_least(0))
    """Seed of the first episode; the episodes have seeds `seed` to `seed + n_episodes - 1`."""
    max_steps: int | None = field(default=None, validator=_at_least(1, optional=True))
    """Longest episode [steps]; None leaves that to the environment."""
    num_envs: int | None = field(default=None, validator=_at_least(1, optional=True))
    """Slots for an environment given by name (None: 32); with a ready environment, its own."""
    success: str | SuccessRule | None = None
    """A key of info, or a function of ``(observation, reward, terminated, truncated, info)``; None
    follows the conventions: info ``is_success``, ``success``, then the environment's methods
    ``is_success()``, ``_check_success()``."""


def evaluate_policy(
    env: Any,
    predict: Predict,
    config: EvalConfig | None = None,
    *,
    on_episode: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Run a policy in closed loop and measure it.

    Every seed gets one episode, and a seed's episode does not depend on the number of slots. If
    `predict` is a method of an object with ``reset(mask)``, that is called whenever episodes begin,
    with a bool mask `[N]` of the slots that they begin in.

    Args:
        env: A Gymnasium environment, a vector environment in ``AutoresetMode.DISABLED``, or a name
            for `make_vector_env`. An environment that is given stays open.
        predict: Function of an observation to actions. A single environment gives one observation
            and takes actions `[A]`; a vector environment gives a batch and takes `[N, A]`. Actions
            are clipped to the bounds of the action space.
        config: Episodes, seeds and limits; None takes the defaults.
        on_episode: Called whenever an episode has ended.

    Returns:
        A mapping of plain numbers and lists. Over the episodes: ``success_rate`` [fraction] of
        those that were successful at any step, ``success_rate_ci95`` (its Wilson interval,
        [low, high]), ``success_at_end_rate`` [fraction], ``n_episodes``, ``mean_return``,
        ``mean_length`` [steps]. Per episode, in order of seeds: ``seeds``, ``successes``,
        ``returns``, ``lengths`` [steps]. Of the work: ``env_steps`` that counted, ``wall_s`` [s].

    Raises:
        ConfigError: If the environment cannot be used, or does not say whether an episode
            succeeded, or `config.num_envs` is not the number of slots of the environment.

    Example:
        >>> from simscaleai_plugin_sim import find_expert
        >>> results = evaluate_policy("reach", find_expert("reach"), EvalConfig(n_episodes=4))
        >>> results["success_rate"], results["seeds"]
        (1.0, [10000, 10001, 10002, 10003])
    """
    config = EvalConfig() if config is None else config
    if isinstance(env, str):
        num_envs = min(config.num_envs or DEFAULT_NUM_ENVS, config.n_episodes)
        made = make_vector_env(env, num_envs)
        try:
            return _evaluate(as_slots(made), predict, config, on_episode)
        finally:
            made.close()
    slots = as_slots(env)
    if config.num_envs not in {None, slots.num_slots}:
        raise ConfigError(
            f"EvalConfig.num_envs: expected {slots.num_slots}, the slots of the environment that "
            f"was given, got {config.num_envs}. Leave it out, or give the environment by name."
        )
    return _evaluate(slots, predict, config, on_episode)


def _evaluate(
    slots: Slots, predict: Predict, config: EvalConfig, on_episode: Callable[[], None] | None
) -> dict[str, Any]:
    seeds = list(range(config.seed, config.seed + config.n_episodes))
    tally = _Tally(seeds, SuccessReader(slots, config.success))
    started = time.perf_counter()
    for step in run_episodes(slots, seeds, _acting(predict), max_steps=config.max_steps):
        tally.count(step)
        if on_episode is not None:
            for _ in range(int(step.ended.sum())):
                on_episode()
    return {**tally.results(), "wall_s": time.perf_counter() - started}


def _acting(predict: Predict) -> Act:
    """Return `predict` as a function of the turn, which tells the policy where episodes begin."""
    reset = getattr(getattr(predict, "__self__", None), "reset", None)

    def act(observation: Any, turn: Turn) -> Any:
        if callable(reset) and turn.starts.any():
            reset(turn.starts.copy())
        return predict(observation)

    return act


class _Tally:
    """Results per episode, gathered step by step."""

    def __init__(self, seeds: list[int], reader: SuccessReader) -> None:
        self._seeds = seeds
        self._reader = reader
        n = len(seeds)
        self._once = np.zeros(n, dtype=np.bool_)
        self._at_end = np.zeros(n, dtype=np.bool_)
        self._reported = np.zeros(n, dtype=np.bool_)
        self._returns = np.zeros(n)
        self._lengths = np.zeros(n, dtype=np.int64)

    def count(self, step: Step) -> None:
        """Add one step of every slot that runs an episode.

        Raises:
            ConfigError: If an episode ended and its success was never reported.
        """
        success, reported = self._reader.read(step.transition)
        running = step.turn.episode >= 0
        episode = step.turn.episode[running]
        self._once[episode] |= success[running]
        self._reported[episode] |= reported[running]
        self._returns[episode] += step.transition.reward[running]
        self._lengths[episode] += 1
        ended = step.turn.episode[step.ended]
        if not self._reported[ended].all():
            raise self._reader.missing()
        self._at_end[ended] = success[step.ended]

    def results(self) -> dict[str, Any]:
        """Return the results as plain numbers and lists."""
        n = len(self._seeds)
        return {
            "success_rate": float(self._once.mean()),
            "success_rate_ci95": list(wilson(int(self._once.sum()), n)),
            "success_at_end_rate": float(self._at_end.mean()),
            "n_episodes": n,
            "mean_return": float(self._returns.mean()),
            "mean_length": float(self._lengths.mean()),
            "seeds": self._seeds,
            "successes": self._once.tolist(),
            "returns": self._returns.tolist(),
            "lengths": self._lengths.tolist(),
            "env_steps": int(self._lengths.sum()),
        }
