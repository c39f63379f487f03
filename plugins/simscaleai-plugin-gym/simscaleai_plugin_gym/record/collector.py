"""Episodes of an expert, one per seed, in order of seeds.

N: environments, T: steps of an episode, A: dimensions of an action.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
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
from simscaleai_plugin_gym.envs.success import SuccessReader
from simscaleai_plugin_gym.options import ENV_TIMEOUT_S
from simscaleai_plugin_gym.record.demonstrator import Demonstrator, Relabelled
from simscaleai_plugin_gym.record.experts import expert_name, load_expert, relabelling_of
from simscaleai_plugin_gym.rollout.rollouts import Step, StepContext, run_episodes

Array = NDArray[Any]

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
    noise: float = 0.0
    """Standard deviation of the noise on the executed action [units of action]."""
    max_steps: int | None = None
    """Longest episode [steps]; None leaves that to the environment."""
    only_successes: bool = False
    """Whether episodes that failed are dropped."""
    relabel: bool = False
    """Whether each episode is also written under the other instructions."""
    num_envs: int | None = None
    """Environments side by side; None chooses."""
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
    """The expert's action for each observation, without the noise `[T, A]`."""
    rewards: Array
    """Reward of each step `[T]`."""
    success: bool | None
    """Whether the task was done at any step; None if the environment does not report it."""
    language: str | None
    """The instruction, if there is one."""
    relabelled: Sequence[Relabelled]
    """The same observations under other instructions."""


class Collector:
    """Runs an expert in an environment of its own; close it after use.

    Args:
        settings: What is to be recorded.
        episodes: Episodes of one call of `collect`; if the number of environments is left open,
            they have equally many each, so that few idle at the end. None if it is not known.

    Raises:
        ConfigError: If expert or environment cannot be built, or the environment not be recorded.
    """

    def __init__(self, settings: RecordingSettings, episodes: int | None = None) -> None:
        host = Host()
        expert = load_expert(
            settings.env, settings.expert, single=settings.expert_single, host=host
        )
        name = expert_name(settings.expert)
        if settings.relabel and relabelling_of(expert) is None:
            raise ConfigError(
                f"expert {name!r} of {settings.env!r} knows one instruction only: expected a "
                "method 'relabelled', got none. Leave relabelling out."
            )
        is_native = has_native_batch(find_declared(settings.env, host))
        num_envs = settings.num_envs or (_busy(episodes) if is_native else 1)
        self._settings = settings
        limit_s = settings.env_timeout_s
        self._env = make_vector_env(
            settings.env, num_envs, host=host, env_timeout_s=limit_s, **settings.env_options
        )
        try:
            self._keys = ObservationKeys(settings.env, self._env.single_observation_space)
            bounds = check_actions(settings.env, self._env.single_action_space)
            self._adapter = adapt_env(self._env, limit_s)
            self._reader = SuccessReader(self._adapter)
            self._demonstrator = Demonstrator(
                name, expert, self._adapter, bounds, noise=settings.noise, relabel=settings.relabel
            )
            self.metadata: Metadata = env_metadata(self._env, settings.env, settings.env_options)
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
        if settings.only_successes and any(not buffers[episode].successes for episode in ended):
            raise ConfigError(
                f"environment {settings.env!r} does not report whether an episode succeeded: "
                "searched info['is_success'], info['success'] and methods of these names. Record "
                "without only_successes."
            )


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
