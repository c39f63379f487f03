"""What ``simscale eval`` does with its checkpoints: evaluates one, compares several, or sweeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from simscaleai_core.cli.output import progress
from simscaleai_plugin_gym.commands.filming import check_filming, film
from simscaleai_plugin_gym.commands.request import Request
from simscaleai_plugin_gym.commands.sides import (
    Pool,
    Side,
    only_env,
    open_pool,
    open_side,
    tasks_of,
)
from simscaleai_plugin_gym.commands.sweep import sweep_checkpoints
from simscaleai_plugin_gym.evaluate.comparison import compare, compare_all
from simscaleai_plugin_gym.evaluate.measurement import Measurement, results_of
from simscaleai_plugin_gym.evaluate.power import episodes_for
from simscaleai_plugin_gym.evaluate.until import Question
from simscaleai_plugin_gym.evaluate.workers import Evaluation
from simscaleai_plugin_gym.executors.choice import ExecutorChoice

_AT_A_TIME = 8


def evaluate_checkpoints(
    evaluation: Evaluation,
    checkpoints: Sequence[Path],
    chosen: ExecutorChoice,
    workers: int | None,
    request: Request,
    show: Callable[[dict[str, Any]], None] = lambda _: None,
) -> dict[str, Any]:
    """Evaluate checkpoints, all on the same episodes.

    Args:
        evaluation: What is done with each.
        checkpoints: At least one.
        chosen: Where the episodes run.
        workers: Processes, or tasks at a time.
        request: What is asked for beside.
        show: Called with the results before videos are made, which may fail.

    Returns:
        The results of the one, the comparison of several, or the sweep; with the answer, if there
        is a question.
    """
    if request.varied is not None:
        return sweep_checkpoints(
            evaluation,
            checkpoints,
            chosen,
            workers,
            request.varied,
            with_control=request.with_control,
        )
    question = request.question
    with open_pool(evaluation, checkpoints, chosen, workers) as pool:
        if question is None:
            measured = _run(evaluation, checkpoints, pool, request)
        else:
            measured = _run_until(evaluation, checkpoints, pool, question, request)
        results = [{**_about(side), **found} for side, found in measured]
        if request.video is not None:
            show(_answered(results, request))
            for (side, _), found in zip(measured, results, strict=True):
                found.update(film(side, evaluation, pool, request, len(checkpoints)))
    return _answered(results, request)


def _about(side: Side) -> dict[str, Any]:
    """Return what was evaluated and where."""
    listed = {k: list(v) if isinstance(v, tuple) else v for k, v in side.options.items()}
    return {"checkpoint": str(side.path), "env": side.env, "env_kwargs": listed}


def _answered(results: Sequence[dict[str, Any]], request: Request) -> dict[str, Any]:
    """Return the results of all checkpoints, and the answers to what was asked about them."""
    answer = {} if request.question is None else request.question.answer()
    found = {**_together(results), **answer}
    if request.difference is not None:
        found["n_for"] = episodes_for(request.difference, found)
    if request.gate is not None:
        found |= {"gate": request.gate_text, "gate_met": request.gate.is_met(found)}
    return found


def _together(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the results of one checkpoint, or the comparison of several."""
    if len(results) == 1:
        return dict(results[0])
    if len(results) == 2:
        return {"env": results[1]["env"], **compare(*results)}
    policies = [each["checkpoint"] for each in results]
    return {"kind": "comparison", "env": results[0]["env"], **compare_all(policies, results)}


def _run(
    evaluation: Evaluation, checkpoints: Sequence[Path], pool: Pool, request: Request
) -> list[tuple[Side, dict[str, Any]]]:
    """Return the results of each checkpoint, one after the other."""
    measured: list[tuple[Side, dict[str, Any]]] = []
    for index in range(len(checkpoints)):
        side = open_side(evaluation, checkpoints, index, pool)
        if len(checkpoints) > 2:
            only_env([side.env, *(each.env for each, _ in measured)])
        check_filming(side, evaluation, request)
        started = perf_counter()
        with progress("evaluating episodes", len(evaluation.config.runs)) as advance:
            parts = pool.measure(tasks_of(side, evaluation, pool), advance)
        wall_s = None if pool.runs_here else perf_counter() - started
        measured.append((side, results_of(parts, wall_s)))
    return measured


def _run_until(
    evaluation: Evaluation,
    checkpoints: Sequence[Path],
    pool: Pool,
    question: Question,
    request: Request,
) -> list[tuple[Side, dict[str, Any]]]:
    """Return the results of each checkpoint in the episodes that it took to answer a question.

    There is a look after each task, in the order of seeds, however many run at a time.
    """
    sides = [open_side(evaluation, checkpoints, i, pool) for i in range(len(checkpoints))]
    for side in sides:
        check_filming(side, evaluation, request)
    tasks = [tasks_of(side, evaluation, pool) for side in sides]
    parts: list[list[Measurement]] = [[] for _ in sides]
    at_a_time = pool.workers or (1 if pool.runs_here else _AT_A_TIME)
    total, taken = len(tasks[0]), 0
    started, is_known = perf_counter(), False
    with progress("evaluating episodes", sum(len(t.seeds) for own in tasks for t in own)) as show:
        while not is_known and taken < total:
            for own, measured in zip(tasks, parts, strict=True):
                measured.extend(pool.measure(own[taken : taken + at_a_time], show))
            while not is_known and taken < len(parts[0]):
                taken += 1
                seen = [[s for part in found[:taken] for s in part.successes] for found in parts]
                is_known = question.look(seen)
    wall_s = None if pool.runs_here else perf_counter() - started
    return [
        (side, results_of(found[:taken], wall_s)) for side, found in zip(sides, parts, strict=True)
    ]
