"""The checkpoints of ``simscale eval``, opened: where each is evaluated, and in which tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

from simscaleai_core.cli.output import waiting
from simscaleai_core.errors import ConfigError
from simscaleai_core.host.facade import Host
from simscaleai_plugin_gym.envs.construction import default_num_envs
from simscaleai_plugin_gym.envs.recorded import recorded_env, warn_of_another_env
from simscaleai_plugin_gym.evaluate.image_inputs import env_options
from simscaleai_plugin_gym.evaluate.measurement import Measurement
from simscaleai_plugin_gym.evaluate.workers import (
    Evaluation,
    EvaluationTask,
    EvaluationWorker,
    split_seeds,
)
from simscaleai_plugin_gym.executors.choice import ExecutorChoice
from simscaleai_plugin_gym.executors.contracts import Executor, Job
from simscaleai_plugin_gym.rollout.policy_settings import num_threads


@frozen(kw_only=True)
class Pool:
    """Where the episodes run."""

    executor: Executor
    """Runs tasks."""
    worker: EvaluationWorker
    """A worker in this process."""
    runs_here: bool
    """Whether the tasks run in this process."""
    workers: int | None
    """Processes, or tasks at a time."""

    def measure(
        self, tasks: Sequence[EvaluationTask], advance: Callable[[int], None]
    ) -> list[Measurement]:
        """Return what was measured in each task.

        Args:
            tasks: What is to be run.
            advance: Called with the number of episodes that have ended.
        """
        found = dict(self.executor.run(tasks, advance))
        return [found[index] for index in range(len(tasks))]


@contextmanager
def open_pool(
    evaluation: Evaluation,
    checkpoints: Sequence[Path],
    chosen: ExecutorChoice,
    workers: int | None,
    worker: type[EvaluationWorker] = EvaluationWorker,
) -> Iterator[Pool]:
    """Open the place where the episodes run.

    Args:
        evaluation: What the tasks have in common.
        checkpoints: Files of the policies.
        chosen: The executor.
        workers: Processes, or tasks at a time.
        worker: What does the tasks.

    Yields:
        The place.
    """
    here = worker(evaluation, checkpoints)
    job = Job(
        worker=f"{worker.__module__}:{worker.__qualname__}",
        settings=evaluation,
        files=checkpoints,
        done="evaluated",
        advice="Repeat the command with fewer workers if memory ran out.",
        ready=here,
    )
    with chosen.open(job, workers) as executor:
        yield Pool(
            executor=executor, worker=here, runs_here=chosen.runs_here(workers), workers=workers
        )


@frozen(kw_only=True)
class Side:
    """One policy and where it is evaluated."""

    index: int
    """Which of the checkpoints."""
    path: Path
    """Its file."""
    env: str
    """Name of the environment."""
    options: Mapping[str, Any]
    """What the environment is built with."""


@waiting("loading the policy")
def open_side(evaluation: Evaluation, checkpoints: Sequence[Path], index: int, pool: Pool) -> Side:
    """Read a checkpoint.

    Args:
        evaluation: What is done with it.
        checkpoints: All of them.
        index: Which.
        pool: Where the episodes run.

    Returns:
        Where it is evaluated.
    """
    from simscaleai_core.host.registry import load_checkpoint

    host, path = Host(), checkpoints[index]
    tree = load_checkpoint(path, host)
    name = recorded_env(tree, path) if evaluation.env is None else evaluation.env
    warn_of_another_env(tree, path, name, host, "is evaluated")
    policy = pool.worker.take(index, tree, host)
    del tree  # with the optimiser's state it may be large
    options = env_options(policy, name, evaluation.options, host=host)
    return Side(index=index, path=path, env=name, options=options)


def only_env(names: Sequence[str]) -> str:
    """Return the environment that several policies are evaluated in.

    Args:
        names: That of each.

    Raises:
        ConfigError: If there are several.
    """
    different = sorted(set(names))
    if len(different) > 1:
        raise ConfigError(
            "the checkpoints are of several environments: expected one, got "
            f"{', '.join(different)}. Name it with --env."
        )
    return different[0]


def tasks_of(side: Side, evaluation: Evaluation, pool: Pool) -> list[EvaluationTask]:
    """Return the tasks in which a policy is evaluated; they do not depend on how many run at once.

    Args:
        side: The policy, and where.
        evaluation: Episodes and settings.
        pool: Where they run.
    """
    config = evaluation.config
    wanted = config.num_envs or default_num_envs(side.env, evaluation.vectorization, host=Host())
    num_envs, parts = split_seeds(config.episode_seeds, wanted)
    return [
        EvaluationTask(
            policy=side.index,
            env=side.env,
            options=side.options,
            num_envs=num_envs,
            seeds=part,
            is_first=place == 0,
            threads=None if pool.runs_here else num_threads(),
        )
        for place, part in enumerate(parts)
    ]
