"""Episodes of an expert, one per seed, in order of seeds.

N: slots, T: steps of an episode, A: dimensions of an action.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_sim.catalog import Expert, make_vector_env
from simscaleai_plugin_sim.demonstrating import Demonstrator, Retelling
from simscaleai_plugin_sim.experts import expert_name, load_expert
from simscaleai_plugin_sim.observing import Facts, ObservationKeys, check_actions, env_facts
from simscaleai_plugin_sim.rollouts import Step, run_episodes
from simscaleai_plugin_sim.slots import as_slots
from simscaleai_plugin_sim.success import SuccessReader
from simscaleai_plugin_sim.tasks import TASKS

Array = NDArray[Any]

BATCH_SLOTS = 16
"""Slots of an environment that has a batch of its own; others have one, for nothing is gained."""
LONGEST = 10_000
"""Steps after which an episode without a limit is taken for endless [steps]."""


@frozen(kw_only=True)
class Plan:
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
    """Whether the expert also tells what it would do under other instructions."""
    num_envs: int | None = None
    """Slots; None chooses."""


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
    """Whether the task was done at any step; None if the environment does not say."""
    language: str | None
    """The instruction, if there is one."""
    retold: Sequence[Retelling]
    """The same observations under other instructions."""


class Collector:
    """Runs an expert in an environment of its own; close it after use.

    Args:
        plan: What is to be recorded.

    Raises:
        ConfigError: If the expert or the environment cannot be had, or not be recorded.
    """

    def __init__(self, plan: Plan) -> None:
        expert = load_expert(plan.env, plan.expert, single=plan.expert_single)
        name = expert_name(plan.expert)
        if plan.relabel and not hasattr(expert, "retold"):
            raise ConfigError(
                f"expert {name!r} of {plan.env!r} knows one instruction only: expected a method "
                "'retold', got none. Leave relabelling out."
            )
        num_envs = plan.num_envs or (BATCH_SLOTS if _has_batch(plan.env) else 1)
        self._plan = plan
        self._env = make_vector_env(plan.env, num_envs, **plan.env_options)
        try:
            self._keys = ObservationKeys(plan.env, self._env.single_observation_space)
            bounds = check_actions(plan.env, self._env.single_action_space)
            self._slots = as_slots(self._env)
            self._reader = SuccessReader(self._slots)
            self._demonstrator = Demonstrator(
                name, expert, self._slots, bounds, noise=plan.noise, relabel=plan.relabel
            )
            self.facts: Facts = env_facts(self._env, plan.env, plan.env_options)
            """What the environment tells about itself."""
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
        plan, drafts, finished, due = self._plan, [_Draft(seed=s) for s in seeds], set[int](), 0
        self._demonstrator.begin(seeds)
        steps = run_episodes(self._slots, seeds, self._act, max_steps=plan.max_steps)
        for step in steps:
            finished |= self._note(step, drafts)
            while due in finished:
                yield drafts[due].finish()
                due += 1

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _act(self, observation: Any, turn: Any) -> Array:
        return self._demonstrator.act(self._keys.as_mapping(observation), turn)

    def _note(self, step: Step, drafts: Sequence[_Draft]) -> set[int]:
        """Return the episodes that ended with a step, after adding it to the drafts."""
        success, reported = self._reader.read(step.transition)
        arrays = self._keys.flat(self._keys.as_mapping(step.observation))
        acted = self._demonstrator
        for slot in np.flatnonzero(step.turn.episode >= 0).tolist():
            draft = drafts[step.turn.episode[slot]]
            if step.turn.starts[slot]:
                draft.language.append(acted.instructions[slot])
            draft.observations.append({k: v[slot].copy() for k, v in arrays.items()})
            draft.actions.append(acted.label[slot].copy())
            draft.rewards.append(float(step.transition.reward[slot]))
            draft.retold.append([(texts[slot], a[slot].copy()) for texts, a in acted.retold])
            if reported[slot]:
                draft.successes.append(bool(success[slot]))
        ended = {int(index) for index in step.turn.episode[step.ended]}
        self._check(step, drafts, ended)
        return ended

    def _check(self, step: Step, drafts: Sequence[_Draft], ended: set[int]) -> None:
        """Check that episodes end, and say whether they succeeded if that matters.

        Raises:
            ConfigError: If not.
        """
        plan = self._plan
        if plan.only_successes and any(not drafts[index].successes for index in ended):
            raise ConfigError(
                f"environment {plan.env!r} does not say whether an episode succeeded: searched "
                "info['is_success'], info['success'] and methods of these names. Record without "
                "only_successes."
            )
        running = {int(index) for index in step.turn.episode if index >= 0} - ended
        lengths = [(len(drafts[index].actions), drafts[index].seed) for index in running]
        if plan.max_steps is None and lengths and max(lengths)[0] >= LONGEST:
            length, seed = max(lengths)
            raise ConfigError(
                f"environment {plan.env!r} has no limit: expected an end of the episode of seed "
                f"{seed}, got {length} steps. Give max_steps."
            )


@frozen(kw_only=True)
class _Draft:
    """An episode while it is being recorded."""

    seed: int
    observations: list[dict[str, Array]] = field(factory=list)
    actions: list[Array] = field(factory=list)
    rewards: list[float] = field(factory=list)
    successes: list[bool] = field(factory=list)
    language: list[str] = field(factory=list)
    retold: list[list[tuple[str, Array]]] = field(factory=list)

    def finish(self) -> Episode:
        """Return the episode and let go of its steps."""
        keys = self.observations[0]
        episode = Episode(
            seed=self.seed,
            observations={key: np.stack([o[key] for o in self.observations]) for key in keys},
            actions=np.stack(self.actions),
            rewards=np.array(self.rewards),
            success=any(self.successes) if self.successes else None,
            language=self.language[0] or None,
            retold=[told for told in map(self._retelling, range(len(self.retold[0]))) if told],
        )
        self.observations.clear()
        self.retold.clear()
        return episode

    def _retelling(self, other: int) -> Retelling | None:
        """Return the episode under another instruction, up to where the expert does not know."""
        actions = np.stack([step[other][1] for step in self.retold])
        unknown = np.flatnonzero(~np.isfinite(actions).all(axis=1))
        actions = actions[: unknown[0]] if len(unknown) else actions
        return (
            Retelling(language=self.retold[0][other][0], actions=actions) if len(actions) else None
        )


def _has_batch(env: str) -> bool:
    names = ({task.name, f"sim/{task.name}", task.env_id} for task in TASKS.values())
    return any(env in aliases for aliases in names)
