"""``simscale eval --vary``: every policy under every condition, on the same episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import attrs

from simscaleai_core.cli.output import print_warning, progress
from simscaleai_core.errors import ConfigError
from simscaleai_core.host.facade import Host
from simscaleai_plugin_gym.commands.control import EXPERT, ControlledWorker, ExpertControl
from simscaleai_plugin_gym.commands.sides import (
    Pool,
    Side,
    only_env,
    open_pool,
    open_side,
    tasks_of,
)
from simscaleai_plugin_gym.commands.sweep_table import CONTROL, answer
from simscaleai_plugin_gym.envs.catalog import find_declared, spec_of
from simscaleai_plugin_gym.envs.construction import make_env
from simscaleai_plugin_gym.envs.failures import close_env
from simscaleai_plugin_gym.envs.variations import variations_of
from simscaleai_plugin_gym.evaluate.image_inputs import env_options
from simscaleai_plugin_gym.evaluate.measurement import Measurement, results_of
from simscaleai_plugin_gym.evaluate.sweep import (
    Sweep,
    Values,
    cells_of,
    disturbances_of,
    options_of,
    sweep_of,
)
from simscaleai_plugin_gym.evaluate.workers import Evaluation, EvaluationTask
from simscaleai_plugin_gym.executors.choice import ExecutorChoice


def sweep_checkpoints(
    evaluation: Evaluation,
    checkpoints: Sequence[Path],
    chosen: ExecutorChoice,
    workers: int | None,
    varied: Mapping[str, Sequence[float]],
    *,
    with_control: bool,
) -> dict[str, Any]:
    """Evaluate checkpoints under every combination of some conditions.

    Args:
        evaluation: What is done with each.
        checkpoints: At least one.
        chosen: Where the episodes run.
        workers: Processes, or tasks at a time.
        varied: Values by quantity.
        with_control: Whether the environment's scripted expert, if it has one, runs too.

    Returns:
        Plain numbers and lists: ``kind``, ``env``, ``env_kwargs``, ``varied``, ``policies``,
        ``n_episodes``, ``seeds``, ``nominal``, ``cells`` (see `cells_of`), ``seeds_obeyed``,
        ``wall_s`` [s] and ``answer``, sentences.

    Raises:
        ConfigError: If something cannot be varied, or is set and varied, or the checkpoints are
            of several environments.
    """
    _check(evaluation, checkpoints, varied)
    with open_pool(evaluation, checkpoints, chosen, workers, ControlledWorker) as pool:
        sides = [open_side(evaluation, checkpoints, i, pool) for i in range(len(checkpoints))]
        env = only_env([side.env for side in sides])
        sweep = sweep_of(varied, env, variations_of(env))
        _build_each(sweep, sides[0], evaluation)
        if with_control:
            sides += _control(env, evaluation)
        started = perf_counter()
        parts = _measured(sides, sweep, evaluation, pool)
    results = [[results_of(part) for part in own] for own in parts]
    policies = [str(side.path) for side in sides]
    obeyed = all(each["seeds_obeyed"] for own in results for each in own)
    if not obeyed:
        print_warning(
            f"warning: {env!r} does not obey seeds, so an episode has another beginning under "
            "each condition: the differences hold, their intervals and p-values do not."
        )
    found = {
        "kind": "sweep",
        "env": env,
        "env_kwargs": dict(evaluation.options),
        "varied": {name: list(values) for name, values in sweep.varied.items()},
        "policies": policies,
        "n_episodes": len(evaluation.config.episode_seeds),
        "seeds": evaluation.config.episode_seeds,
        "nominal": dict(sweep.nominal),
        "cells": cells_of(sweep, policies, results),
        "seeds_obeyed": obeyed,
        "wall_s": perf_counter() - started,
    }
    return {**found, "answer": answer(found)}


def _check(evaluation: Evaluation, checkpoints: Sequence[Path], varied: Mapping[str, Any]) -> None:
    """Check what can be checked before a checkpoint is read.

    Raises:
        ConfigError: If something cannot be varied, or a checkpoint stands twice.
    """
    if len(set(checkpoints)) < len(checkpoints):
        raise ConfigError(
            f"checkpoints of a sweep: expected each once, got {', '.join(map(str, checkpoints))}"
        )
    both = [name for name in varied if name in evaluation.options]
    if both:
        raise ConfigError(
            f"{both[0]!r} is varied and set: expected one of --vary and --env-kwargs.{both[0]}, "
            "got both. Leave one out."
        )
    if evaluation.env is not None:
        sweep_of(varied, evaluation.env, variations_of(evaluation.env))


def _build_each(sweep: Sweep, side: Side, evaluation: Evaluation) -> None:
    """Build the environment once with each of the varied options, before any episode runs."""
    limit_s = evaluation.config.env_timeout_s
    different = {tuple(options_of(each).items()) for each in sweep.conditions}
    for options in sorted(different - {()}):
        wanted = {**side.options, **dict(options)}
        close_env(make_env(side.env, env_timeout_s=limit_s, **wanted), side.env, limit_s)


def _control(env: str, evaluation: Evaluation) -> list[Side]:
    """Return the scripted expert as a side; nothing if the environment has none."""
    host = Host()
    declared = find_declared(env, host)
    if declared is None or spec_of(declared).expert is None:
        return []
    options = env_options(ExpertControl, env, evaluation.options, host=host)
    return [Side(index=EXPERT, path=Path(CONTROL), env=env, options=options)]


def _measured(
    sides: Sequence[Side], sweep: Sweep, evaluation: Evaluation, pool: Pool
) -> list[list[list[Measurement]]]:
    """Return what was measured of each policy under each condition, task by task.

    All tasks are in one list, so that no worker waits for the last task of a condition.
    """
    tasks = [
        [_under(condition, task) for task in own]
        for own in (tasks_of(side, evaluation, pool) for side in sides)
        for condition in sweep.conditions
    ]
    flat = [task for own in tasks for task in own]
    with progress("evaluating episodes", sum(len(task.seeds) for task in flat)) as advance:
        found = iter(pool.measure(flat, advance))
    by_cell = [[next(found) for _ in own] for own in tasks]
    count = len(sweep.conditions)
    return [by_cell[start : start + count] for start in range(0, len(by_cell), count)]


def _under(condition: Values, task: EvaluationTask) -> EvaluationTask:
    options = {**task.options, **options_of(condition)}
    return attrs.evolve(task, options=options, disturbances=disturbances_of(condition))
