"""The page: what is shown of each run, and of several beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from simscaleai_plugin_data.view.drawing import number_text
from simscaleai_plugin_data.view.page import page_environment, ranges

from simscaleai_plugin_report.charts import panel_of_looks, panels_of, panels_over_each_other
from simscaleai_plugin_report.comparison import (
    Difference,
    best_of,
    differences,
    settings_that_differ,
    verdict_of,
)
from simscaleai_plugin_report.conditions import Conditions, drawn, rows_of_common, words_of_common
from simscaleai_plugin_report.evaluation import Evaluation
from simscaleai_plugin_report.files import is_number, p_text
from simscaleai_plugin_report.ingredients import (
    card_of,
    in_effect,
    policy_of,
    shown,
    trained_on,
    value_text,
)
from simscaleai_plugin_report.run import Run, unsaid_options
from simscaleai_plugin_report.summary import answer_of
from simscaleai_plugin_report.sweep import Sweep, maps_of, rows_of

_MAX_SHOWN = 2000  # episodes in the strip
_SHARES = {
    "policy_share": "the policy",
    "env_share": "the environment",
    "physics_share": "of it, physics",
}
_LIMITS = (5, 10, 25, 50, 100)  # of the axis of differences [percentage points]


def page(runs: Sequence[Run], sweeps: Sequence[Sweep] = ()) -> str:
    """Return a page that shows some runs, the answer first.

    All that comes from files is escaped, and its control characters are written out.

    Args:
        runs: At least one.
        sweeps: Sweeps that were named, beside those in the folders of the runs.

    Returns:
        The HTML.
    """
    names = [run.name for run in runs]
    template = page_environment(__package__).get_template("report.html.jinja")
    return template.render(
        title=names[0] if len(runs) == 1 else f"{len(runs)} runs: {', '.join(names)}",
        runs=[_run(run, sweeps if len(runs) == 1 else ()) for run in runs],
        comparison=_comparison(runs) if len(runs) > 1 else None,
        sweeps=[_sweep(each) for each in sweeps],
        version=version("simscaleai-plugin-report"),
    )


def _run(run: Run, sweeps: Sequence[Sweep]) -> dict[str, Any]:
    checkpoint, evaluation = run.checkpoint, run.evaluation
    return {
        "name": run.name,
        "path": str(run.directory.resolve()),
        "problems": run.problems,
        "answer": None if evaluation is None else _answer(evaluation),
        "missing_command": run.eval_command(repeats=False) if evaluation is None else "",
        "panels": panels_of(run.curves),
        "trained_on": [] if checkpoint is None else trained_on(checkpoint),
        "cards": [card_of(card) for card in run.cards],
        "in_effect": [] if checkpoint is None else in_effect(checkpoint),
        "plugins": [] if checkpoint is None else list(checkpoint.plugins.items()),
        "policy": {} if checkpoint is None else policy_of(checkpoint),
        "changed": {} if checkpoint is None else shown(checkpoint.changed),
        "settings": {} if checkpoint is None else shown(checkpoint.settings),
        "episodes": None if evaluation is None else _episodes(evaluation),
        "where": None if run.conditions is None else _where(run.conditions),
        "failures": run.failures,
        "like_command": "" if run.failures is None else run.failures.like_command,
        "sweeps": [_sweep(each) for each in (*run.sweeps, *sweeps)],
        "latency": None if evaluation is None else _latency(evaluation.results),
        "pictures": run.pictures,
        "train_lines": run.train_command.splitlines(),
        "eval_command": "" if evaluation is None else run.eval_command(),
        "not_kept": [] if evaluation is None else unsaid_options(evaluation),
        "is_contiguous": evaluation is None or evaluation.is_contiguous,
    }


def _answer(evaluation: Evaluation) -> dict[str, Any]:
    results, seeds = evaluation.results, evaluation.distinct_seeds
    facts = [
        ("mean return", results.get("mean_return")),
        ("mean length", results.get("mean_length")),
    ]
    at_end = results.get("success_at_end_rate")
    words = f"{min(seeds)} to {max(seeds)}" if evaluation.is_contiguous else f"{len(seeds)} of them"
    own = ", ".join(map(str, evaluation.policy_seeds))
    return {
        "percent": f"{evaluation.rate:.1%}",
        "sentence": answer_of(evaluation),
        "is_uncorrected": bool(evaluation.ended) and not evaluation.looks,
        "looks": panel_of_looks(evaluation.looks),
        "low": 100 * evaluation.interval[0],
        "high": 100 * evaluation.interval[1],
        "rate": 100 * evaluation.rate,
        "facts": [
            ("environment", evaluation.env or "not given"),
            ("seeds", words),
            *([("policy seeds", own)] if own else []),
            *((name, value_text(value)) for name, value in facts if value is not None),
            *([("success at the end", f"{at_end:.1%}")] if is_number(at_end) else []),
            *_gate(results),
            *([("until", evaluation.ended)] if evaluation.ended else []),
        ],
    }


def _gate(results: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if results.get("gate"):
        yield f"gate {results['gate']}", "met" if results.get("gate_met") else "missed"


def _episodes(evaluation: Evaluation) -> dict[str, Any]:
    results = evaluation.results
    columns = zip(*(results[n] for n in ("seeds", "successes", "returns", "lengths")), strict=True)
    each = [
        (bool(success), f"seed {seed}: return {number_text(value)}, {length} steps")
        for seed, success, value, length in columns
    ]
    outcomes = zip(evaluation.seeds, results["successes"], strict=True)
    failed = list(dict.fromkeys(seed for seed, success in outcomes if not success))
    return {
        "shown": each[:_MAX_SHOWN],
        "num_left_out": max(0, len(each) - _MAX_SHOWN),
        "failed": failed[:_MAX_SHOWN],
        "histograms": ranges("", evaluation.histograms())["dimensions"],
    }


def _where(conditions: Conditions) -> dict[str, Any]:
    found, common = conditions.success_map, conditions.common
    return {
        "words": conditions.words,
        "hint": conditions.hint,
        "map": None if found is None else drawn(found),
        "common": rows_of_common(common),
        "common_words": words_of_common(common),
    }


def _sweep(sweep: Sweep) -> dict[str, Any]:
    return {
        "title": ", ".join(sweep.varied),
        "path": str(sweep.path),
        "answer": sweep.answer,
        "names": list(sweep.varied),
        "maps": maps_of(sweep),
        "rows": rows_of(sweep),
    }


def _latency(results: Mapping[str, Any]) -> dict[str, Any] | None:
    times = results.get("predict_ms")
    if not isinstance(times, dict):
        return None
    shown = [(n, value_text(v)) for n, v in times.items() if n != "calls" and v is not None]
    wall = results.get("wall_s")
    return {
        "facts": [(name, f"{value} ms") for name, value in shown],
        "calls": value_text(times.get("calls")),
        "wall": "" if wall is None else f"{value_text(wall)} s",
        "shares": [
            (name, f"{results[key]:.0%}", 100 * results[key])
            for key, name in _SHARES.items()
            if isinstance(results.get(key), float)
        ],
    }


def _comparison(runs: Sequence[Run]) -> dict[str, Any]:
    compared = differences(runs)
    bounds = [abs(b) for each in compared if each.results for b in each.results["difference_ci95"]]
    limit = next(each for each in _LIMITS if each >= 100 * max(bounds, default=0))
    return {
        "answer": best_of(runs, compared),
        "limit": limit,
        "rows": [_row(run) for run in runs],
        "differences": [_difference(each, limit) for each in compared],
        "settings": settings_that_differ(runs),
        "panels": panels_over_each_other([(run.name, run.curves) for run in runs]),
    }


def _row(run: Run) -> dict[str, Any]:
    parameters = "-" if run.checkpoint is None else f"{run.checkpoint.num_parameters:,}"
    answer = None if run.evaluation is None else _answer(run.evaluation)
    found = {} if run.evaluation is None else run.evaluation.results
    times = found.get("predict_ms")
    return {
        "name": run.name,
        "answer": answer,
        "episodes": "-" if run.evaluation is None else f"{run.evaluation.num_episodes:,}",
        "mean_return": value_text(found.get("mean_return", "-")),
        "parameters": parameters,
        "latency": value_text(times.get("p50", "-") if isinstance(times, dict) else "-"),
    }


def _difference(each: Difference, limit: int) -> dict[str, Any]:
    if each.results is None:
        return {"first": each.first, "second": each.second, "reason": each.reason}
    found = each.results
    low, high = found["difference_ci95"]
    ends = found["mean_return_difference_ci95"]
    return {
        "first": each.first,
        "second": each.second,
        "reason": "",
        "difference": _points(found["difference"]),
        "interval": f"{_points(low)} to {_points(high)}",
        "low": 50 * (1 + 100 * low / limit),
        "high": 50 * (1 + 100 * high / limit),
        "at": 50 * (1 + 100 * found["difference"] / limit),
        "verdict": verdict_of(each),
        "p_value": p_text(found["p_value"]),
        "p_value_corrected": p_text(found["p_value_corrected"]),
        "only": f"{found['only_second']} and {found['only_first']}",
        "mean_return": f"{value_text(found['mean_return_difference'])} "
        f"({value_text(ends[0])} to {value_text(ends[1])})",
    }


def _points(fraction: float) -> str:
    return f"{100 * fraction:+.1f}"
