"""The worker that evaluates: it has environments and policies of its own and takes task after task.

A task is a run of seeds and a number of environments, and one process runs the same tasks as
several: matrix products of another number of rows may differ in the last bit, so results would
depend on who shares a batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import attrs
from attrs import field, frozen

from simscaleai_plugin_gym.evaluate.evaluation import EvalConfig, measure_policy
from simscaleai_plugin_gym.evaluate.measurement import Measurement
from simscaleai_plugin_gym.executors.contracts import Report
from simscaleai_plugin_gym.rollout.disturbances import Disturbances
from simscaleai_plugin_gym.rollout.policy_settings import PolicySettings

_MIN_EPISODES = 25
"""Episodes of a task, at least, if there are as many: what is lost with a worker, and repeated."""


@frozen(kw_only=True)
class Evaluation:
    """What all tasks of an evaluation have in common."""

    config: EvalConfig
    """Limits and settings; of several policies they are the same. Seeds are the task's."""
    env: str | None = None
    """Name of the environment; that of each checkpoint's data if None."""
    options: Mapping[str, Any] = field(factory=dict)
    """What the user builds the environment with."""
    vectorization: str | None = None
    """How the environments run."""
    weights: str = "evaluated"
    """Which weights of the checkpoint."""
    device: str = "cpu"
    """Where the policy computes."""

    @property
    def policy_settings(self) -> PolicySettings:
        """What is chosen for the policy, wherever it acts; of several policy seeds, the first."""
        config = self.config
        return PolicySettings(
            weights=self.weights,
            device=self.device,
            language=cast("str | None", config.language),  # as the command line gave it
            execute=config.execute,
            ensemble=config.ensemble,
            source=config.source,
            policy_seed=config.runs[0][1],
        )


@frozen(kw_only=True)
class EvaluationTask:
    """Some of the episodes of one policy."""

    policy: int
    """Which of the job's checkpoints."""
    env: str
    """Name of the environment."""
    options: Mapping[str, Any]
    """What it is built with."""
    num_envs: int
    """Environments side by side."""
    seeds: Sequence[int]
    """Seeds of the episodes."""
    is_first: bool
    """Whether these are the first episodes: with them, it is checked that seeds are obeyed."""
    threads: int | None
    """Threads that compute, as in the command's own process; None leaves them."""
    disturbances: Disturbances | None = None
    """What differs from the environment; None takes the evaluation's."""


class EvaluationWorker:
    """Evaluates policies of checkpoints.

    Args:
        evaluation: What the tasks have in common.
        files: The checkpoints.
    """

    def __init__(self, evaluation: Evaluation, files: Sequence[Path]) -> None:
        self._evaluation = evaluation
        self._files = files
        self._index = -1
        self._policy: Any = None
        self._env: Any = None
        self._env_of: tuple[Any, ...] = ()

    def run(self, task: EvaluationTask, report: Report) -> Measurement:
        """Run the episodes of a task.

        Args:
            task: Which.
            report: Called with 1 whenever an episode has ended.

        Returns:
            What was measured.
        """
        from simscaleai_core.seeding import forked_rng

        if task.threads is not None:
            import torch

            torch.set_num_threads(task.threads)
        config = self._config_of(task)
        policy = self._policy_of(task)
        env = self._opened(task, policy)
        with forked_rng(task.seeds[0]):  # a policy that draws: the same whoever ran what before
            return measure_policy(
                env,
                policy.predict,
                config,
                on_episode=lambda: report(1),
                checks_seeds=task.is_first,
            )

    def policy(self, index: int) -> Any:
        """Return the policy of a checkpoint; the one before is let go.

        Args:
            index: Which of the checkpoints.
        """
        if index != self._index:
            from simscaleai_core.host.facade import Host
            from simscaleai_core.host.registry import load_checkpoint

            host = Host()
            self.take(index, load_checkpoint(self._files[index], host), host)
        return self._policy

    def take(self, index: int, tree: Any, host: Any) -> Any:
        """Return the policy of a checkpoint that was read.

        Args:
            index: Which of the checkpoints.
            tree: What was read.
            host: Knows the plugins.
        """
        self._policy = self._evaluation.policy_settings.read(tree, self._files[index], host)
        self._index = index
        return self._policy

    def close(self) -> None:
        """Close the environments."""
        if self._env is not None:
            from simscaleai_plugin_gym.envs.failures import close_env

            env, self._env = self._env, None
            close_env(env, self._env_of[0], self._evaluation.config.env_timeout_s)

    def _policy_of(self, task: EvaluationTask) -> Any:
        return self.policy(task.policy)

    def _config_of(self, task: EvaluationTask) -> EvalConfig:
        config = attrs.evolve(self._evaluation.config, seeds=task.seeds, num_envs=None)
        if task.disturbances is None:
            return config
        return attrs.evolve(config, disturbances=task.disturbances)

    def _opened(self, task: EvaluationTask, policy: Any) -> Any:
        """Return environments for a task: those of the task before, if they fit."""
        from simscaleai_plugin_gym.evaluate.image_inputs import check_images

        wanted = (task.env, dict(task.options), task.num_envs)
        if self._env is None or wanted != self._env_of:
            from simscaleai_plugin_gym.envs.construction import make_vector_env

            self.close()
            self._env_of = wanted
            self._env = make_vector_env(
                task.env,
                task.num_envs,
                vectorization=self._evaluation.vectorization,
                env_timeout_s=self._evaluation.config.env_timeout_s,
                **task.options,
            )
        check_images(policy, self._env.single_observation_space, task.env)
        return self._env


def split_seeds(seeds: Sequence[int], num_envs: int) -> tuple[int, list[Sequence[int]]]:
    """Cut the seeds of an evaluation into tasks, so that environments seldom idle.

    Args:
        seeds: Seed of each episode, at least one.
        num_envs: Environments side by side, at most.

    Returns:
        Number of environments of each task, and the seeds of each, in order; whatever runs them.

    Example:
        >>> num_envs, parts = split_seeds(range(200), 32)
        >>> num_envs, [len(part) for part in parts]
        (29, [29, 29, 29, 29, 29, 29, 26])
        >>> num_envs, parts = split_seeds(range(70), 8)
        >>> num_envs, [len(part) for part in parts]
        (8, [32, 32, 6])
    """
    num_envs = min(num_envs, len(seeds))
    rounds = math.ceil(_MIN_EPISODES / num_envs)
    size = num_envs * rounds
    if rounds == 1:
        num_envs = size = math.ceil(len(seeds) / math.ceil(len(seeds) / num_envs))
    return num_envs, [seeds[start : start + size] for start in range(0, len(seeds), size)]
