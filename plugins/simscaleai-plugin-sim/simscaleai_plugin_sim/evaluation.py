"""Closed-loop evaluation: a policy, an environment, a fixed list of seeds, and what came out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import Attribute, field, frozen

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_sim.acting import Actor, Predict, set_execution
from simscaleai_plugin_sim.catalog import default_num_envs, make_vector_env
from simscaleai_plugin_sim.instructions import LanguageRule
from simscaleai_plugin_sim.latency import Stopwatch, TimedSlots
from simscaleai_plugin_sim.rollouts import run_episodes
from simscaleai_plugin_sim.seedcheck import SeedCheck
from simscaleai_plugin_sim.slots import Slots, as_slots
from simscaleai_plugin_sim.success import SuccessReader, SuccessRule
from simscaleai_plugin_sim.tally import Tally


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


def _seeds(instance: object, attribute: Attribute[Any], value: Any) -> None:  # noqa: ARG001
    if value is None:
        return
    if not value or not all(type(seed) is int and seed >= 0 for seed in value):
        raise ConfigError(
            f"EvalConfig.seeds: expected at least one seed, integers of at least 0, got {value!r}"
        )


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
    """Slots for an environment given by name (None: as `default_num_envs` says); with a ready
    environment, its own."""
    success: str | SuccessRule | None = None
    """A key of info, or a function of ``(observation, reward, terminated, truncated, info)``; None
    follows the conventions: info ``is_success``, ``success``, then the environment's methods
    ``is_success()``, ``_check_success()``."""
    seeds: Sequence[int] | None = field(default=None, validator=_seeds)
    """Seed of each episode; they replace `seed` and `n_episodes`."""
    language: str | LanguageRule | None = None
    """An instruction for all episodes, or a function of (the environment's instruction, seed) that
    gives the one to tell, such as a swapped one; None tells the environment's own."""
    execute: int | None = field(default=None, validator=_at_least(1, optional=True))
    """Steps of a predicted chunk to execute before the next is predicted; None leaves it to the
    policy."""
    ensemble: float | None = None
    """Coefficient of temporal ensembling [unitless]; None leaves it to the policy."""

    @property
    def episode_seeds(self) -> list[int]:
        """Seed of each episode."""
        if self.seeds is not None:
            return list(self.seeds)
        return list(range(self.seed, self.seed + self.n_episodes))


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
    with a bool mask `[N]` of the slots that they begin in. If it takes ``language``, it gets the
    instruction: from info ``language``, else the environment's attribute ``task_description``.

    Args:
        env: A Gymnasium environment, a vector environment in ``AutoresetMode.DISABLED``, or a name
            for `make_vector_env`. An environment that is given stays open.
        predict: Function of an observation to actions. A single environment gives one observation
            and takes actions `[A]`; a vector environment gives a batch and takes `[N, A]`. Actions
            are clipped to the bounds of the action space. An observation that is a plain array is
            given to a trained policy under the key ``state``, and to any other function as it is.
        config: Episodes, seeds and limits; None takes the defaults.
        on_episode: Called whenever an episode has ended.

    Returns:
        A mapping of plain numbers and lists. Over the episodes: ``success_rate`` [fraction] of
        those that were successful at any step, ``success_rate_ci95`` (its Wilson interval,
        [low, high]), ``success_at_end_rate`` [fraction], ``n_episodes``, ``mean_return``,
        ``mean_length`` [steps]. Per episode, in order of seeds: ``seeds``, ``successes``,
        ``returns``, ``lengths`` [steps], and ``instructions`` if the policy was told any. Of the
        work: ``env_steps`` that counted, ``seeds_obeyed`` (whether the first episode begins in the
        same way when it is reset again), and what `Stopwatch.results` says of time.

    Raises:
        ConfigError: If the environment cannot be used, or does not say whether an episode
            succeeded, or `config.num_envs` is not the number of slots of the environment, or the
            policy cannot do what the configuration asks of it.

    Example:
        >>> from simscaleai_plugin_sim import find_expert
        >>> results = evaluate_policy("reach", find_expert("reach"), EvalConfig(n_episodes=4))
        >>> results["success_rate"], results["seeds"]
        (1.0, [10000, 10001, 10002, 10003])
    """
    config = EvalConfig() if config is None else config
    if isinstance(env, str):
        num_envs = min(config.num_envs or default_num_envs(env), len(config.episode_seeds))
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
    seeds = config.episode_seeds
    set_execution(predict, config.execute, config.ensemble)
    timed = TimedSlots(slots)
    actor = Actor(predict, timed, seeds, config.language)
    tally = Tally(seeds, SuccessReader(timed, config.success))
    check = SeedCheck(slots, seeds[0])
    stopwatch = Stopwatch(timed)
    for step in run_episodes(timed, seeds, actor, max_steps=config.max_steps):
        check.remember(step.observation)
        tally.count(step)
        if on_episode is not None:
            for _ in range(int(step.ended.sum())):
                on_episode()
    told = {} if actor.instructions is None else {"instructions": actor.instructions}
    times = stopwatch.results(actor.call_s)
    return {**tally.results(), **told, "seeds_obeyed": check.is_obeyed(), **times}
