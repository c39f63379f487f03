"""What a report shows, as plain values and as lines of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from simscaleai_plugin_report.charts import curve_facts
from simscaleai_plugin_report.comparison import differences, settings_that_differ
from simscaleai_plugin_report.conditions import facts_of_map
from simscaleai_plugin_report.evaluation import Evaluation
from simscaleai_plugin_report.run import Run
from simscaleai_plugin_report.sweep import Sweep


def answer_of(evaluation: Evaluation) -> str:
    """Say in a sentence how often a policy succeeded."""
    low, high = evaluation.interval
    where = f" of {evaluation.env}" if evaluation.env else ""
    kind = "95% interval at every look" if evaluation.looks else "95% interval"
    return (
        f"{evaluation.num_succeeded:,} of {evaluation.num_episodes:,} episodes{where} succeed "
        f"({kind} {low:.1%} to {high:.1%})"
    )


def summary_of(runs: Sequence[Run], sweeps: Sequence[Sweep] = ()) -> dict[str, Any]:
    """Return what a report shows of some runs, as plain values.

    Args:
        runs: At least one.
        sweeps: Sweeps that were named.

    Returns:
        ``runs``, each with ``name``, ``directory``, ``problems``, ``evaluation`` (as
        `simscale eval` wrote it), ``success_map``, ``failures_in_common``, ``failures``,
        ``sweeps``, ``checkpoint``, ``curves``, ``data`` and ``commands``; ``comparison`` with
        ``differences`` of every two runs and ``settings``, None for one run; and ``sweeps``, those
        that were named.
    """
    compared = None
    if len(runs) > 1:
        compared = {
            "differences": [attrs.asdict(each) for each in differences(runs)],
            "settings": settings_that_differ(runs),
        }
    return {
        "runs": [_run(run) for run in runs],
        "comparison": compared,
        "sweeps": [_sweep(each) for each in sweeps],
    }


def lines_of(runs: Sequence[Run]) -> dict[str, str]:
    """Return the answer of each run, by its name."""
    return {
        run.name: "no evaluation"
        if (found := run.evaluation) is None
        else f"{found.rate:.1%}: {answer_of(found)}"
        for run in runs
    }


def _sweep(sweep: Sweep) -> dict[str, Any]:
    return {"file": str(sweep.path), **sweep.results}


def _where(run: Run) -> dict[str, Any]:
    conditions, failures = run.conditions, run.failures
    found = None if conditions is None else conditions.success_map
    return {
        "success_map": None if found is None else facts_of_map(found),
        "failures_in_common": [] if conditions is None else list(conditions.common),
        "failures": None
        if failures is None
        else {
            "folder": str(failures.folder),
            "seeds": failures.seeds,
            "n_episodes": failures.num_episodes,
        },
        "sweeps": [_sweep(each) for each in run.sweeps],
    }


def _run(run: Run) -> dict[str, Any]:
    checkpoint = run.checkpoint
    return {
        "name": run.name,
        "directory": str(run.directory),
        "problems": list(run.problems),
        "evaluation": None if run.evaluation is None else dict(run.evaluation.results),
        **_where(run),
        "checkpoint": None
        if checkpoint is None
        else {**attrs.asdict(checkpoint), "path": str(checkpoint.path)},
        "curves": curve_facts(run.curves),
        "data": [{k: v for k, v in c.contents.items() if k != "episodes"} for c in run.cards],
        "commands": {
            "train": run.train_command,
            "eval": run.eval_command(repeats=run.evaluation is not None),
        },
    }
