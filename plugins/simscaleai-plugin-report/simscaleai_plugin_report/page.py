"""The page: what is shown of each run, and of several beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from simscaleai_plugin_data.contents import facts_of
from simscaleai_plugin_data.view.drawing import number_text
from simscaleai_plugin_data.view.page import page_environment, ranges

from simscaleai_plugin_report.charts import panel_of_looks, panels_of, panels_over_each_other
from simscaleai_plugin_report.checkpoint import CheckpointFacts, data_sizes
from simscaleai_plugin_report.comparison import Difference, differences, settings_that_differ
from simscaleai_plugin_report.data import DataCard
from simscaleai_plugin_report.evaluation import Evaluation
from simscaleai_plugin_report.files import is_number
from simscaleai_plugin_report.run import Run, unsaid_options
from simscaleai_plugin_report.summary import answer_of

_MAX_SHOWN = 2000  # episodes in the strip
_SHARES = {
    "policy_share": "the policy",
    "env_share": "the environment",
    "physics_share": "of it, physics",
}
_WORDS = {
    "file": "data",
    "env": "recorded in",
    "num_episodes": "episodes",
    "num_timesteps": "timesteps",
    "num_success": "episodes that succeed",
    "languages": "instructions",
    "fps": "timesteps per second",
    "filter_keys": "filter keys",
}
_LIMITS = (5, 10, 25, 50, 100)  # of the axis of differences [percentage points]

Facts = list[tuple[str, str]]


def page(runs: Sequence[Run]) -> str:
    """Return a page that shows some runs, the answer first.

    All that comes from files is escaped, and its control characters are written out.

    Args:
        runs: At least one.

    Returns:
        The HTML.
    """
    names = [run.name for run in runs]
    template = page_environment(__package__).get_template("report.html.jinja")
    return template.render(
        title=names[0] if len(runs) == 1 else f"{len(runs)} runs: {', '.join(names)}",
        runs=[_run(run) for run in runs],
        comparison=_comparison(runs) if len(runs) > 1 else None,
        version=version("simscaleai-plugin-report"),
    )


def _run(run: Run) -> dict[str, Any]:
    checkpoint, evaluation = run.checkpoint, run.evaluation
    return {
        "name": run.name,
        "path": str(run.directory.resolve()),
        "problems": run.problems,
        "answer": None if evaluation is None else _answer(evaluation),
        "missing_command": run.eval_command(repeats=False) if evaluation is None else "",
        "panels": panels_of(run.curves),
        "trained_on": [] if checkpoint is None else _trained_on(checkpoint),
        "cards": [_card(card) for card in run.cards],
        "in_effect": [] if checkpoint is None else _in_effect(checkpoint),
        "plugins": [] if checkpoint is None else list(checkpoint.plugins.items()),
        "policy": {} if checkpoint is None else _policy(checkpoint),
        "changed": {} if checkpoint is None else _shown(checkpoint.changed),
        "settings": {} if checkpoint is None else _shown(checkpoint.settings),
        "episodes": None if evaluation is None else _episodes(evaluation),
        "latency": None if evaluation is None else _latency(evaluation.results),
        "pictures": run.pictures,
        "train_lines": run.train_command.splitlines(),
        "eval_command": "" if evaluation is None else run.eval_command(),
        "not_kept": [] if evaluation is None else unsaid_options(evaluation),
        "is_contiguous": evaluation is None or evaluation.is_contiguous,
    }


def _answer(evaluation: Evaluation) -> dict[str, Any]:
    results, seeds = evaluation.results, evaluation.seeds
    facts = [
        ("mean return", results.get("mean_return")),
        ("mean length", results.get("mean_length")),
    ]
    at_end = results.get("success_at_end_rate")
    words = f"{min(seeds)} to {max(seeds)}" if evaluation.is_contiguous else f"{len(seeds)} of them"
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
            *((name, _number(value)) for name, value in facts if value is not None),
            *([("success at the end", f"{at_end:.1%}")] if is_number(at_end) else []),
            *_gate(results),
            *([("until", evaluation.ended)] if evaluation.ended else []),
        ],
    }


def _gate(results: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if results.get("gate"):
        yield f"gate {results['gate']}", "met" if results.get("gate_met") else "missed"


def _trained_on(checkpoint: CheckpointFacts) -> Facts:
    sizes, keys = data_sizes(checkpoint), checkpoint.data.get("observations")
    shapes = keys.items() if isinstance(keys, dict) else ()
    return [
        ("data", str(checkpoint.config.dataset_path or "the dummy dataset")),
        ("reader", str(checkpoint.config.dataset_name)),
        ("episodes trained on", _number(sizes["num_episodes"])),
        ("samples trained on", _number(sizes["num_samples"])),
        ("fingerprint", str(sizes["fingerprint"])),
        ("observations", ", ".join(f"{k} {_shape(v)}" for k, v in shapes) or "none"),
    ]


def _card(card: DataCard) -> dict[str, Any]:
    return {
        "facts": [(_WORDS.get(k, k), str(v)) for k, v in facts_of(dict(card.contents)).items()],
        "keys": [{**key, "shape": _shape(key["shape"])} for key in card.contents["keys"]],
        "ranges": [ranges(name, found) for name, found in card.dimensions.items()],
    }


def _in_effect(checkpoint: CheckpointFacts) -> Facts:
    facts = {k: v for k, v in checkpoint.facts.items() if k not in {"plugins", "data"}}
    return [
        ("checkpoint", str(checkpoint.path)),
        ("steps", f"{checkpoint.step:,}"),
        ("lowest held-out loss", number_text(checkpoint.best_eval_loss)),
        *((name.replace("_", " "), str(value)) for name, value in facts.items()),
    ]


def _policy(checkpoint: CheckpointFacts) -> dict[str, str]:
    hparams = checkpoint.policy.get("hparams")
    return {
        "component": str(checkpoint.policy.get("component")),
        "class": str(checkpoint.policy.get("class")),
        "numbers in its state": f"{checkpoint.num_parameters:,}",
        **(_shown(hparams) if isinstance(hparams, dict) else {}),
    }


def _episodes(evaluation: Evaluation) -> dict[str, Any]:
    results = evaluation.results
    columns = zip(*(results[n] for n in ("seeds", "successes", "returns", "lengths")), strict=True)
    each = [
        (bool(success), f"seed {seed}: return {number_text(value)}, {length} steps")
        for seed, success, value, length in columns
    ]
    outcomes = zip(evaluation.seeds, results["successes"], strict=True)
    failed = [seed for seed, success in outcomes if not success]
    return {
        "shown": each[:_MAX_SHOWN],
        "num_left_out": max(0, len(each) - _MAX_SHOWN),
        "failed": failed[:_MAX_SHOWN],
        "histograms": ranges("", evaluation.histograms())["dimensions"],
    }


def _latency(results: Mapping[str, Any]) -> dict[str, Any] | None:
    times = results.get("predict_ms")
    if not isinstance(times, dict):
        return None
    shown = [(n, _number(v)) for n, v in times.items() if n != "calls" and v is not None]
    wall = results.get("wall_s")
    return {
        "facts": [(name, f"{value} ms") for name, value in shown],
        "calls": _number(times.get("calls")),
        "wall": "" if wall is None else f"{_number(wall)} s",
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
        "mean_return": _number(found.get("mean_return", "-")),
        "parameters": parameters,
        "latency": _number(times.get("p50", "-") if isinstance(times, dict) else "-"),
    }


def _difference(each: Difference, limit: int) -> dict[str, Any]:
    if each.results is None:
        return {"first": each.first, "second": each.second, "reason": each.reason}
    found = each.results
    low, high = found["difference_ci95"]
    ends = found["mean_return_difference_ci95"]
    verdict = "better" if low > 0 else "worse" if high < 0 else "undecided"
    return {
        "first": each.first,
        "second": each.second,
        "reason": "",
        "difference": _points(found["difference"]),
        "interval": f"{_points(low)} to {_points(high)}",
        "low": 50 * (1 + 100 * low / limit),
        "high": 50 * (1 + 100 * high / limit),
        "at": 50 * (1 + 100 * found["difference"] / limit),
        "verdict": verdict,
        "p_value": number_text(found["p_value"]),
        "only": f"{found['only_second']} and {found['only_first']}",
        "mean_return": f"{_number(found['mean_return_difference'])} "
        f"({_number(ends[0])} to {_number(ends[1])})",
    }


def _points(fraction: float) -> str:
    return f"{100 * fraction:+.1f}"


def _shown(table: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): _text(value) for name, value in table.items()}


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{k} = {_text(v)}" for k, v in value.items()) or "none"
    return "none" if value is None else str(value)


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _number(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return number_text(value) if isinstance(value, float) else str(value)
