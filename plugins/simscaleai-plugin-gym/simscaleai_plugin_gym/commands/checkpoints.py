"""What ``simscale eval`` does with its checkpoints: one is evaluated, two are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from attrs import frozen

from simscaleai_core.cli.output import print_note, progress
from simscaleai_core.errors import ConfigError
from simscaleai_core.host.facade import Host
from simscaleai_plugin_gym.envs.catalog import find_declared
from simscaleai_plugin_gym.envs.construction import default_num_envs, make_env
from simscaleai_plugin_gym.envs.success import rule_from_text
from simscaleai_plugin_gym.evaluate.comparison import compare
from simscaleai_plugin_gym.evaluate.image_inputs import env_options
from simscaleai_plugin_gym.evaluate.measurement import Measurement, results_of
from simscaleai_plugin_gym.evaluate.until import Question
from simscaleai_plugin_gym.evaluate.workers import (
    EvaluationTask,
    EvaluationTasks,
    EvaluationWorker,
    split_seeds,
)
from simscaleai_plugin_gym.executors.choice import ExecutorChoice
from simscaleai_plugin_gym.executors.contracts import Executor, Job
from simscaleai_plugin_gym.video.video import CONTACT_SHEET, record_videos

_FOLDERS = ("first", "second")
_AT_A_TIME = 8


@frozen(kw_only=True)
class Evaluation:
    """What is done with each checkpoint."""

    tasks: EvaluationTasks
    """What its tasks have in common."""
    env: str | None
    """Name of the environment; that of the checkpoint's data if None."""
    num_envs: int | None
    """Environments side by side, at most."""
    options: Mapping[str, Any]
    """What the environment is built with."""
    video: Path | None
    """Folder for videos; None makes none."""
    video_episodes: int
    """Episodes on video."""


@frozen(kw_only=True)
class _Side:
    """One checkpoint, opened."""

    index: int
    path: Path
    env: str
    options: Mapping[str, Any]
    tasks: Sequence[EvaluationTask]


@frozen(kw_only=True)
class _Pool:
    """Where the episodes run."""

    executor: Executor
    worker: EvaluationWorker
    runs_here: bool
    workers: int | None

    def measure(
        self, tasks: Sequence[EvaluationTask], advance: Callable[[int], None]
    ) -> list[Measurement]:
        """Return what was measured in each task."""
        found = dict(self.executor.run(tasks, advance))
        return [found[index] for index in range(len(tasks))]


def evaluate_checkpoints(
    evaluation: Evaluation,
    checkpoints: Sequence[Path],
    chosen: ExecutorChoice,
    workers: int | None,
    question: Question | None = None,
) -> dict[str, Any]:
    """Evaluate one checkpoint, or two on the same episodes.

    Args:
        evaluation: What is done with each.
        checkpoints: One or two.
        chosen: Where the episodes run.
        workers: Processes, or tasks at a time.
        question: What is to be found out: the evaluation ends when it is.

    Returns:
        The results of the one, or the comparison of the two; with the answer, if there is a
        question.
    """
    worker = EvaluationWorker(evaluation.tasks, checkpoints)
    job = Job(
        worker="simscaleai_plugin_gym.evaluate.workers:EvaluationWorker",
        settings=evaluation.tasks,
        files=checkpoints,
        done="evaluated",
        advice="Repeat the command with fewer workers if memory ran out.",
        ready=worker,
    )
    runs_here = chosen.runs_here(workers)
    with chosen.open(job, workers) as executor:
        pool = _Pool(executor=executor, worker=worker, runs_here=runs_here, workers=workers)
        run = _run if question is None else _run_until
        results = run(evaluation, checkpoints, pool, question)
    found = results[0] if len(results) == 1 else compare(*results)
    about = {} if len(results) == 1 else {"env": results[1]["env"]}
    return {**about, **({} if question is None else question.answer()), **found}


def _run(
    evaluation: Evaluation, checkpoints: Sequence[Path], pool: _Pool, _: Question | None
) -> list[dict[str, Any]]:
    """Return the results of each checkpoint, one after the other."""
    results = []
    for index in range(len(checkpoints)):
        side, started = _opened(evaluation, checkpoints, index, pool), perf_counter()
        with progress("evaluating episodes", len(evaluation.tasks.config.episode_seeds)) as advance:
            parts = pool.measure(side.tasks, advance)
        wall_s = None if pool.runs_here else perf_counter() - started
        results.append(
            _finished(evaluation, side, results_of(parts, wall_s), pool, len(checkpoints))
        )
    return results


def _run_until(
    evaluation: Evaluation, checkpoints: Sequence[Path], pool: _Pool, question: Question | None
) -> list[dict[str, Any]]:
    """Return the results of each checkpoint in the episodes that it took to answer a question.

    There is a look after each task, in the order of seeds, however many run at a time.
    """
    sides = [_opened(evaluation, checkpoints, i, pool) for i in range(len(checkpoints))]
    parts: list[list[Measurement]] = [[] for _ in sides]
    at_a_time = pool.workers or (1 if pool.runs_here else _AT_A_TIME)
    total, taken = len(sides[0].tasks), 0
    started, is_known = perf_counter(), False
    with progress("evaluating episodes", sum(len(t.seeds) for s in sides for t in s.tasks)) as show:
        while not is_known and taken < total:
            for index, side in enumerate(sides):
                parts[index] += pool.measure(side.tasks[taken : taken + at_a_time], show)
            while not is_known and taken < len(parts[0]):
                taken += 1
                seen = [[s for part in found[:taken] for s in part.successes] for found in parts]
                is_known = question is None or question.look(seen)
    wall_s = None if pool.runs_here else perf_counter() - started
    return [
        _finished(evaluation, side, results_of(found[:taken], wall_s), pool, len(sides))
        for side, found in zip(sides, parts, strict=True)
    ]


def _opened(evaluation: Evaluation, checkpoints: Sequence[Path], index: int, pool: _Pool) -> _Side:
    from simscaleai_core.host.registry import load_checkpoint

    host, path, tasks = Host(), checkpoints[index], evaluation.tasks
    tree = load_checkpoint(path, host)
    name = _recorded_env(tree, path) if evaluation.env is None else evaluation.env
    _warn_of_another_env(tree, path, name, host)
    policy = pool.worker.take(index, tree, host)
    del tree  # with the optimiser's state it may be large
    options = env_options(policy, name, evaluation.options, host=host)
    wanted = evaluation.num_envs or default_num_envs(name, tasks.vectorization, host=host)
    num_envs, parts = split_seeds(tasks.config.episode_seeds, wanted)
    return _Side(
        index=index,
        path=path,
        env=name,
        options=options,
        tasks=[
            EvaluationTask(
                policy=index,
                env=name,
                options=options,
                num_envs=num_envs,
                seeds=part,
                is_first=place == 0,
                threads=None if pool.runs_here else _threads(),
            )
            for place, part in enumerate(parts)
        ],
    )


def _finished(
    evaluation: Evaluation, side: _Side, results: dict[str, Any], pool: _Pool, count: int
) -> dict[str, Any]:
    """Return results with what was evaluated and where, and videos if they are wanted."""
    listed = {k: list(v) if isinstance(v, tuple) else v for k, v in side.options.items()}
    about = {"checkpoint": str(side.path), "env": side.env, "env_kwargs": listed}
    if evaluation.video is None:
        return {**about, **results}
    config = evaluation.tasks.config
    directory = evaluation.video / (_FOLDERS[side.index] if count > 1 else "")
    drawn = {**side.options, "render_mode": "rgb_array", "host": Host()}
    success = evaluation.tasks.success
    videos = record_videos(
        lambda: make_env(side.env, env_timeout_s=config.env_timeout_s, **drawn),
        pool.worker.policy(side.index).predict,
        directory,
        config.episode_seeds[: evaluation.video_episodes],
        success=None if success is None else rule_from_text(success),
        language=config.language,
        max_steps=config.max_steps,
        env_timeout_s=config.env_timeout_s,
    )
    shown = [{"file": str(v.path), "seed": v.seed, "success": v.success} for v in videos]
    return {**about, **results, "videos": shown, "contact_sheet": str(directory / CONTACT_SHEET)}


def _threads() -> int:
    from torch import get_num_threads

    return get_num_threads()


def _warn_of_another_env(tree: Mapping[str, Any], path: Path, name: str, host: Host) -> None:
    """Say that a policy is evaluated in another environment than its data was recorded in."""
    recorded = (tree.get("data") or {}).get("env") or name
    one, other = (find_declared(each, host) for each in (recorded, name))
    if recorded != name and (one is None or other is None or one.id != other.id):
        print_note(
            f"warning: {path} was trained on data of the environment {recorded!r}, and is evaluated"
            f" in {name!r}."
        )


def _recorded_env(tree: Mapping[str, Any], checkpoint: Path) -> str:
    """Return the environment that the checkpoint's data was recorded in.

    Raises:
        ConfigError: If the checkpoint does not know it.
    """
    name = (tree.get("data") or {}).get("env")
    if not name:
        raise ConfigError(
            f"{checkpoint} does not say where its data was recorded: expected an environment. "
            "Name it with --env."
        )
    return str(name)
