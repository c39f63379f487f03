"""Closed-loop evaluation: a policy, an environment, a fixed list of seeds, and the results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from attrs import Attribute, field, frozen

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_gym.envs.adapter import EnvAdapter, adapt_env
from simscaleai_plugin_gym.envs.conditions import Condition, condition_at
from simscaleai_plugin_gym.envs.construction import default_num_envs, make_vector_env
from simscaleai_plugin_gym.envs.failures import close_env
from simscaleai_plugin_gym.envs.seed_check import SeedCheck
from simscaleai_plugin_gym.envs.success import SuccessReader, SuccessRule, rule_from_text
from simscaleai_plugin_gym.evaluate.actors import Actor, ActorSource
from simscaleai_plugin_gym.evaluate.measurement import Measurement, results_of
from simscaleai_plugin_gym.evaluate.modes import Mode, modes_at
from simscaleai_plugin_gym.evaluate.timing import Stopwatch, TimedEnv, Times
from simscaleai_plugin_gym.options import (
    ENV_TIMEOUT_S,
    MAX_EPISODES,
    MAX_NUM_ENVS,
    MAX_SEED,
    MAX_STEPS,
    check_ranges,
)
from simscaleai_plugin_gym.rollout.disturbances import Disturbances, disturbed
from simscaleai_plugin_gym.rollout.instructions import LanguageRule
from simscaleai_plugin_gym.rollout.policy_runner import (
    PolicyRunner,
    Predict,
    set_execution,
    set_source,
)
from simscaleai_plugin_gym.rollout.rollouts import Step, run_episodes


def _integer(low: int, high: int, *, optional: bool = False) -> Any:
    def check(instance: object, attribute: Attribute[Any], value: Any) -> None:
        if optional and value is None:
            return
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            is_high = isinstance(value, int) and value > high
            bound = f"at most {high:,}" if is_high else f"at least {low}"
            raise ConfigError(
                f"{type(instance).__name__}.{attribute.name}: expected an integer of {bound}, got "
                f"{value!r}"
            )

    return check


def _in_range(instance: object, attribute: Attribute[Any], value: Any) -> None:  # noqa: ARG001
    check_ranges({attribute.name: value})


def _rule(instance: object, attribute: Attribute[Any], value: Any) -> None:  # noqa: ARG001
    if isinstance(value, str):
        rule_from_text(value)


def _policy_seeds(instance: object, attribute: Attribute[Any], value: Any) -> None:  # noqa: ARG001
    each = value if isinstance(value, Sequence) else [value]
    valid = [type(seed) is int and 0 <= seed <= MAX_SEED for seed in each]
    if not each or not all(valid) or len(set(each)) < len(each):
        raise ConfigError(
            f"EvalConfig.policy_seed: expected an integer of 0 to {MAX_SEED}, or several different "
            f"ones, got {value!r}"
        )


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

    n_episodes: int = field(default=10, validator=_integer(1, MAX_EPISODES))
    """Episodes to run."""
    seed: int = field(default=10_000, validator=_integer(0, MAX_SEED))
    """Seed of the first episode; the episodes have seeds `seed` to `seed + n_episodes - 1`."""
    max_steps: int | None = field(default=None, validator=_integer(1, MAX_STEPS, optional=True))
    """Longest episode [steps]; None leaves that to the environment, and an episode of 10,000 steps
    is then an error."""
    num_envs: int | None = field(default=None, validator=_integer(1, MAX_NUM_ENVS, optional=True))
    """Environments that run side by side if one is given by name (None: as `default_num_envs`
    returns); with a ready environment, its own number."""
    success: str | SuccessRule | None = field(default=None, validator=_rule)
    """A key of info, a function of ``(observation, reward, terminated, truncated, info)``, or its
    name ``"module:function"``; None follows the conventions: info ``is_success``, ``success``, then
    the environment's methods ``is_success()``, ``_check_success()``."""
    seeds: Sequence[int] | None = field(default=None, validator=_seeds)
    """Seed of each episode; they replace `seed` and `n_episodes`."""
    policy_seed: int | Sequence[int] = field(default=0, validator=_policy_seeds)
    """Seed of the policy's own randomness, beside the episode's; of several, each episode is run
    with each. It matters to policies whose ``reset`` takes ``seeds``."""
    language: str | LanguageRule | None = None
    """An instruction for all episodes, or a function of (the environment's instruction, seed) that
    gives the one that the policy gets, such as a swapped one; None passes the environment's on."""
    execute: int | None = field(default=None, validator=_integer(1, MAX_STEPS, optional=True))
    """Steps of a predicted chunk to execute before the next is predicted; None leaves it to the
    policy."""
    ensemble: float | None = field(default=None, validator=_in_range)
    """Coefficient of temporal ensembling [unitless]; None leaves it to the policy."""
    source: str | None = None
    """Source of the policy's training data whose units count, if it has statistics by source; None
    leaves it to the policy."""
    disturbances: Disturbances = field(factory=Disturbances)
    """What differs from the environment as it is: late actions, noisy observations and so on."""
    env_timeout_s: float = field(default=ENV_TIMEOUT_S, validator=_in_range)
    """Time that an environment may take to be made, for one reset and for one step [s]. With a
    ready vector environment that has a batch of its own, time of all of them together."""

    @property
    def episode_seeds(self) -> list[int]:
        """Seed of each episode."""
        if self.seeds is not None:
            return list(self.seeds)
        return list(range(self.seed, self.seed + self.n_episodes))

    @property
    def runs(self) -> list[tuple[int, int]]:
        """What is run: each episode's seed with each policy seed, one episode after the other."""
        policy_seed = self.policy_seed
        own = [policy_seed] if isinstance(policy_seed, int) else policy_seed
        return [(seed, each) for seed in self.episode_seeds for each in own]


class EpisodeStatistics:
    """Results per episode, gathered step by step.

    Args:
        adapter: Where they run.
        seeds: Seed of each episode.
        reader: Finds out whether an episode succeeded.
    """

    def __init__(self, adapter: EnvAdapter, seeds: Sequence[int], reader: SuccessReader) -> None:
        self._adapter = adapter
        self._seeds = seeds
        self._reader = reader
        n = len(seeds)
        self._once = np.zeros(n, dtype=np.bool_)
        self._at_end = np.zeros(n, dtype=np.bool_)
        self._reported = np.zeros(n, dtype=np.bool_)
        self._returns = np.zeros(n)
        self._lengths = np.zeros(n, dtype=np.int64)
        self._conditions: list[Condition] = [{}] * n
        self._modes: list[Mode | None] = [None] * n

    def add(self, step: Step) -> None:
        """Add one step of every environment that runs an episode.

        Raises:
            ConfigError: If an episode ended and its success was never reported.
        """
        success, reported = self._reader.read(step.transition)
        running = step.context.episode >= 0
        if step.context.starts.any():
            self._add_conditions(step)
        for index, mode in modes_at(self._adapter, step.transition.infos).items():
            if running[index]:
                self._modes[step.context.episode[index]] = mode
        episode = step.context.episode[running]
        self._once[episode] |= success[running]
        self._reported[episode] |= reported[running]
        self._returns[episode] += step.transition.reward[running]
        self._lengths[episode] += 1
        ended = step.context.episode[step.ended]
        if not self._reported[ended].all():
            raise self._reader.missing()
        self._at_end[ended] = success[step.ended]

    def _add_conditions(self, step: Step) -> None:
        began = step.context.starts & (step.context.episode >= 0)
        for index in np.flatnonzero(began).tolist():
            self._conditions[step.context.episode[index]] = condition_at(
                self._adapter, step.observation, step.context.first_infos, index
            )

    def measurement(
        self,
        *,
        policy_seeds: Sequence[int],
        instructions: Sequence[str] | None,
        seeds_obeyed: bool,
        times: Times,
    ) -> Measurement:
        """Return what was measured.

        Args:
            policy_seeds: Seed of the policy's own randomness in each episode.
            instructions: The instruction of each episode, if there are any.
            seeds_obeyed: Whether the first episode begins in the same way again.
            times: What the time went into.
        """
        return Measurement(
            seeds=list(self._seeds),
            policy_seeds=policy_seeds,
            successes=self._once.tolist(),
            successes_at_end=self._at_end.tolist(),
            returns=self._returns.tolist(),
            lengths=self._lengths.tolist(),
            initial_conditions=self._conditions,
            modes=self._modes,
            instructions=instructions,
            seeds_obeyed=seeds_obeyed,
            times=times,
        )


def evaluate_policy(
    env: Any,
    predict: Predict,
    config: EvalConfig | None = None,
    *,
    on_episode: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Run a policy in closed loop and measure it.

    Every seed gets one episode, and a seed's episode does not depend on the number of environments.
    If `predict` is a method of an object with ``reset(mask)``, that is called whenever episodes
    begin, with a bool mask `[N]` of the environments that they begin in; if it takes ``seeds``,
    with the seed of the episode in each, int64 `[N]`, too. If `predict` takes ``language``, it gets
    the instruction: from info ``language``, else the environment's attribute ``task_description``.

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
        ``returns``, ``lengths`` [steps], ``initial_conditions`` (see `initial_condition`),
        ``instructions`` if the policy got any, and what `mode_results` makes of info ``mode``. With
        other policy seeds than 0, ``policy_seeds`` of the episodes; with several, an episode is in
        the lists once for each, and the interval is that of `clustered_rate`. Of the work:
        ``env_steps`` that counted, ``seeds_obeyed`` (whether the first episode begins in the same
        way when it is reset again), and the times of
        `simscaleai_plugin_gym.evaluate.timing.shares`.

    Raises:
        ConfigError: If the environment cannot be used, or does not report whether an episode
            succeeded, or `config.num_envs` is not the number of environments that were given, or
            the policy cannot do what the configuration demands, or an episode has no end.
        EnvError: If an environment raises, hangs, dies, or gives what is no result; with its name,
            the seed and the step. The processes of a vector environment are ended.

    Example:
        >>> def upright(observation, reward, terminated, truncated, info):
        ...     return truncated
        >>> def balance(observation):  # of [N, 4]
        ...     return (observation[:, 2] + observation[:, 3] > 0).astype(int)
        >>> config = EvalConfig(n_episodes=3, success=upright)
        >>> results = evaluate_policy("CartPole-v1", balance, config)
        >>> results["success_rate"], results["seeds"]
        (1.0, [10000, 10001, 10002])
    """
    config = EvalConfig() if config is None else config
    if isinstance(env, str):
        num_envs = min(config.num_envs or default_num_envs(env), len(config.runs))
        limit_s = config.env_timeout_s
        made = make_vector_env(env, num_envs, env_timeout_s=limit_s)
        try:
            return results_of([_measure(adapt_env(made, limit_s), predict, config, on_episode)])
        finally:
            close_env(made, env, limit_s)
    return results_of([measure_policy(env, predict, config, on_episode=on_episode)])


def measure_policy(
    env: Any,
    predict: Predict | ActorSource,
    config: EvalConfig,
    *,
    on_episode: Callable[[], None] | None = None,
    checks_seeds: bool = True,
) -> Measurement:
    """Run a policy in closed loop and return what was measured in each episode.

    Args:
        env: An environment, as for `evaluate_policy`; it stays open.
        predict: As for `evaluate_policy`, or something that makes an actor of its own.
        config: Episodes, seeds and limits.
        on_episode: Called whenever an episode has ended.
        checks_seeds: Whether to check that the environment obeys seeds.

    Returns:
        What `results_of` makes results of.

    Raises:
        ConfigError: If `config.num_envs` is not the number of environments that were given.
    """
    adapter = adapt_env(env, config.env_timeout_s)
    if config.num_envs not in {None, adapter.num_envs}:
        raise ConfigError(
            f"EvalConfig.num_envs: expected {adapter.num_envs}, as many as the environment that "
            f"was given has, got {config.num_envs}. Leave it out, or give the environment by name."
        )
    return _measure(adapter, predict, config, on_episode, checks_seeds=checks_seeds)


def _measure(
    adapter: EnvAdapter,
    predict: Predict | ActorSource,
    config: EvalConfig,
    on_episode: Callable[[], None] | None,
    *,
    checks_seeds: bool = True,
) -> Measurement:
    seeds, policy_seeds = zip(*config.runs, strict=True)
    adapter = disturbed(adapter, config.disturbances)
    timed = TimedEnv(adapter)
    runner = _actor(predict, timed, config)
    statistics = EpisodeStatistics(timed, seeds, SuccessReader(timed, config.success))
    check = SeedCheck(adapter, seeds[0])
    stopwatch = Stopwatch(timed)
    for step in run_episodes(timed, seeds, runner, max_steps=config.max_steps):
        check.remember(step.observation)
        statistics.add(step)
        if on_episode is not None:
            for _ in range(int(step.ended.sum())):
                on_episode()
    times = stopwatch.times(runner.call_s)
    return statistics.measurement(
        policy_seeds=policy_seeds,
        instructions=runner.instructions,
        seeds_obeyed=not checks_seeds or check.is_reproducible(),
        times=times,
    )


def _actor(predict: Predict | ActorSource, adapter: EnvAdapter, config: EvalConfig) -> Actor:
    seeds, policy_seeds = zip(*config.runs, strict=True)
    if isinstance(predict, ActorSource):
        return predict.actor(adapter, seeds)
    set_execution(predict, config.execute, config.ensemble)
    set_source(predict, config.source)
    return PolicyRunner(predict, adapter, seeds, config.language, policy_seeds)
