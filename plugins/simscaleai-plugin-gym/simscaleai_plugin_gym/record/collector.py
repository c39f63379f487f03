"""Episodes of an expert or a policy, one per seed, in order of seeds.

N: environments, T: steps of an episode, A: dimensions of an action.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

from simscaleai_core.errors import ConfigError
from simscaleai_core.host.facade import Host
from simscaleai_plugin_gym.envs.adapter import adapt_env
from simscaleai_plugin_gym.envs.catalog import Expert, find_declared, has_native_batch
from simscaleai_plugin_gym.envs.construction import make_vector_env
from simscaleai_plugin_gym.envs.failures import close_env
from simscaleai_plugin_gym.envs.observations import (
    Metadata,
    ObservationKeys,
    check_actions,
    env_metadata,
)
from simscaleai_plugin_gym.envs.success import INFO_KEYS, METHODS, SuccessReader, SuccessRule
from simscaleai_plugin_gym.evaluate.image_inputs import check_images, env_options
from simscaleai_plugin_gym.options import ENV_TIMEOUT_S
from simscaleai_plugin_gym.record.demonstrator import Demonstrator, Relabelled
from simscaleai_plugin_gym.record.experts import expert_name, load_expert, relabelling_of
from simscaleai_plugin_gym.rollout.policy_settings import PolicySettings
from simscaleai_plugin_gym.rollout.rollouts import Step, StepContext, run_episodes

Array = NDArray[Any]

LABELS = (EXPERT, POLICY) = ("expert", "policy")
"""Whose actions are stored."""
NUM_ENVS_NATIVE = 16
"""Environments in a native batch, at most; without one a single environment is as fast."""


@frozen(kw_only=True)
class RecordingSettings:
    """What is to be recorded; a worker builds everything else from it."""

    env: str
    """Name of the environment."""
    env_options: Mapping[str, Any] = field(factory=dict)
    """What it is built with."""
    expert: str | Expert | None = None
    """``"module:function"``, a function, or None for the environment's own."""
    expert_single: bool = False
    """Whether the expert handles one observation at a time."""
    policy: Path | None = None
    """Checkpoint of the policy that acts; None if the expert does."""
    policy_settings: PolicySettings = field(factory=PolicySettings)
    """What is chosen for the policy, if one acts."""
    labels: str = EXPERT
    """Whose actions are stored: ``"expert"`` or ``"policy"``."""
    success: str | SuccessRule | None = None
    """What success is: a key of info, a function, or its name; None follows the conventions."""
    noise: float = 0.0
    """Standard deviation of the noise on the executed action [units of action]."""
    max_steps: int | None = None
    """Longest episode [steps]; None leaves that to the environment."""
    only_successes: bool = False
    """Whether episodes that failed are dropped."""
    relabel: bool = False
    """Whether each episode is also written under the other instructions."""
    num_envs: int | None = None
    """Environments side by side, at most; None chooses. A policy acts in one at a time: products
    of matrices with other numbers of rows may differ in the last bit."""
    env_timeout_s: float = ENV_TIMEOUT_S
    """Time that an environment may take to be made, for one reset and for one step [s]."""


@frozen(kw_only=True)
class Episode:
    """One recorded episode."""

    seed: int
    """Seed of the episode."""
    observations: Mapping[str, Array]
    """Observation before each action, each key `[T, ...]`."""
    actions: Array
    """The action stored for each observation, without the noise `[T, A]`."""
    rewards: Array
    """Reward of each step `[T]`."""
    success: bool | None
    """Whether the task was done at any step; None if the environment does not report it."""
    language: str | None
    """The instruction, if there is one."""
    relabelled: Sequence[Relabelled]
    """The same observations under other instructions."""


class Collector:
    """Runs an expert or a policy in an environment of its own; close it after use.

    Args:
        settings: What is to be recorded.
        episodes: Episodes of one call of `collect`; if the number of environments is left open,
            they have equally many each, so that few idle at the end. None if it is not known.

    Raises:
        ConfigError: If expert or environment cannot be built, or the environment not be recorded.
    """

    def __init__(self, settings: RecordingSettings, episodes: int | None = None) -> None:
        host = Host()
        expert, name = _expert_of(settings, host), expert_name(settings.expert)
        policy = None if settings.policy is None else _policy_of(settings, settings.policy, host)
        options = dict(settings.env_options)
        if policy is not None:
            options = env_options(policy, settings.env, options, host=host)
        self._settings = settings
        limit_s = settings.env_timeout_s
        self._env = make_vector_env(
            settings.env,
            _num_envs(settings, episodes, host),
            host=host,
            env_timeout_s=limit_s,
            **options,
        )
        try:
            self._keys = ObservationKeys(settings.env, self._env.single_observation_space)
            bounds = check_actions(settings.env, self._env.single_action_space)
            if policy is not None:
                check_images(policy, self._env.single_observation_space, settings.env)
            self._adapter = adapt_env(self._env, limit_s)
            self._reader = SuccessReader(self._adapter, settings.success)
            self._demonstrator = Demonstrator(
                name,
                expert,
                self._adapter,
                bounds,
                policy=None if policy is None else policy.predict,
                policy_settings=settings.policy_settings,
                noise=settings.noise,
                relabel=settings.relabel,
            )
            self.metadata: Metadata = env_metadata(self._env, settings.env, options)
            """Metadata of the environment."""
        except BaseException:
            self.close()
            raise

    def collect(self, seeds: Sequence[int]) -> Iterator[Episode]:
        """Run one episode per seed.

        Args:
            seeds: Seed of each episode, at least one.

        Yields:
            Episodes, in order of seeds.
        """
        if self._settings.policy is not None:
            for seed in seeds:
                yield self._visited(seed)
            return
        buffers = [_EpisodeBuffer(seed=seed) for seed in seeds]
        finished: set[int] = set()
        due = 0
        self._demonstrator.begin(seeds)
        max_steps = self._settings.max_steps
        for step in run_episodes(self._adapter, seeds, self._act, max_steps=max_steps):
            finished |= self._add_step(step, buffers)
            while due in finished:
                yield buffers[due].finish()
                due += 1

    def _visited(self, seed: int) -> Episode:
        """Return a policy's episode, up to where the expert does not know what to do."""
        from simscaleai_core.seeding import forked_rng

        buffer = _EpisodeBuffer(seed=seed)
        self._demonstrator.begin([seed])
        max_steps = self._settings.max_steps
        with forked_rng(seed):  # a policy that draws: the same whatever ran before
            for step in run_episodes(self._adapter, [seed], self._act, max_steps=max_steps):
                if not np.isfinite(self._demonstrator.label).all():
                    break
                self._add_step(step, [buffer])
        return buffer.finish()

    def close(self) -> None:
        """Close the environment."""
        close_env(self._env, self._settings.env, self._settings.env_timeout_s)

    def _act(self, observation: Any, context: StepContext) -> Array:
        return self._demonstrator.act(self._keys.as_mapping(observation), context)

    def _add_step(self, step: Step, buffers: Sequence[_EpisodeBuffer]) -> set[int]:
        """Add a step to the buffers and return the episodes that ended with it."""
        success, reported = self._reader.read(step.transition)
        arrays = self._keys.flat(self._keys.as_mapping(step.observation))
        done = self._demonstrator
        for index in np.flatnonzero(step.context.episode >= 0).tolist():
            buffer = buffers[step.context.episode[index]]
            if step.context.starts[index]:
                buffer.language.append(done.instructions[index])
            buffer.observations.append({k: v[index].copy() for k, v in arrays.items()})
            buffer.actions.append(done.label[index].copy())
            buffer.rewards.append(float(step.transition.reward[index]))
            buffer.relabelled.append(
                [(texts[index], actions[index].copy()) for texts, actions in done.relabelled]
            )
            if reported[index]:
                buffer.successes.append(bool(success[index]))
        ended = {int(index) for index in step.context.episode[step.ended]}
        self._check_success(buffers, ended)
        return ended

    def _check_success(self, buffers: Sequence[_EpisodeBuffer], ended: set[int]) -> None:
        """Check that success is reported if it matters.

        Raises:
            ConfigError: If not.
        """
        settings = self._settings
        is_needed = settings.only_successes or settings.success is not None
        if is_needed and any(not buffers[episode].successes for episode in ended):
            keys = INFO_KEYS if settings.success is None else (settings.success,)
            searched = " and ".join(f"info[{key!r}]" for key in keys)
            if settings.success is None:
                searched += f", and the methods {' and '.join(METHODS)}"
            raise ConfigError(
                f"environment {settings.env!r} does not report whether an episode succeeded: "
                f"searched {searched}. Say what success is (--success), or record without "
                "only_successes."
            )


def _expert_of(settings: RecordingSettings, host: Host) -> Expert | None:
    """Return the expert, or None if none is asked.

    Raises:
        ConfigError: If it knows one instruction only, and is to act under others.
    """
    if settings.labels == POLICY:
        return None
    expert = load_expert(settings.env, settings.expert, single=settings.expert_single, host=host)
    if settings.relabel and relabelling_of(expert) is None:
        raise ConfigError(
            f"expert {expert_name(settings.expert)!r} of {settings.env!r} knows one instruction "
            "only: expected a method 'relabelled', got none. Leave relabelling out."
        )
    return expert


def _policy_of(settings: RecordingSettings, path: Path, host: Host) -> Any:
    from simscaleai_core.host.registry import load_checkpoint

    return settings.policy_settings.read(load_checkpoint(path, host), path, host)


def _num_envs(settings: RecordingSettings, episodes: int | None, host: Host) -> int:
    if settings.policy is not None:
        return 1
    is_native = has_native_batch(find_declared(settings.env, host))
    return settings.num_envs or (_busy(episodes) if is_native else 1)


def _busy(episodes: int | None) -> int:
    """Return the number of environments in a native batch that all have as many episodes."""
    if episodes is None:
        return NUM_ENVS_NATIVE
    return math.ceil(episodes / math.ceil(episodes / NUM_ENVS_NATIVE))


@frozen(kw_only=True)
class _EpisodeBuffer:
    """An episode while it is being recorded."""

    seed: int
    observations: list[dict[str, Array]] = field(factory=list)
    actions: list[Array] = field(factory=list)
    rewards: list[float] = field(factory=list)
    successes: list[bool] = field(factory=list)
    language: list[str] = field(factory=list)
    relabelled: list[list[tuple[str, Array]]] = field(factory=list)

    def finish(self) -> Episode:
        """Return the episode and free its steps."""
        keys = self.observations[0]
        others = [self._relabelled(other) for other in range(len(self.relabelled[0]))]
        episode = Episode(
            seed=self.seed,
            observations={key: np.stack([o[key] for o in self.observations]) for key in keys},
            actions=np.stack(self.actions),
            rewards=np.array(self.rewards),
            success=any(self.successes) if self.successes else None,
            language=self.language[0] or None,
            relabelled=[other for other in others if other is not None],
        )
        self.observations.clear()
        self.relabelled.clear()
        return episode

    def _relabelled(self, other: int) -> Relabelled | None:
        """Return the episode under another instruction, up to where the expert does not know."""
        actions = np.stack([step[other][1] for step in self.relabelled])
        unknown = np.flatnonzero(~np.isfinite(actions).all(axis=1))
        actions = actions[: unknown[0]] if len(unknown) else actions
        if not len(actions):
            return None
        return Relabelled(language=self.relabelled[0][other][0], actions=actions)
