"""Several runs beside each other: what differs, and how sure the difference of success is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import attrs
from attrs import evolve, frozen

from simscaleai_core.errors import SimScaleError
from simscaleai_plugin_report.checkpoint import CheckpointFacts, data_sizes
from simscaleai_plugin_report.run import Run

_PLACES = {"checkpoint_dir", "resume_from", "wandb_run_name"}  # of no effect on what is learned
_GIVEN = {"options", "model_kwargs", "dataset_kwargs"}  # `settings` has them as they took effect
_MISSING = "-"
_CHANCE = 0.05


@frozen(kw_only=True)
class Difference:
    """The success rate of a run minus that of one before it."""

    first: str
    """Name of the run that comes first."""
    second: str
    """Name of the other."""
    results: Mapping[str, Any] | None
    """What `compare` returns without the two evaluations, and ``p_value_corrected`` for the number
    of pairs (Holm); or None."""
    reason: str
    """Why there is nothing to compare, or nothing."""


def differences(runs: Sequence[Run]) -> list[Difference]:
    """Compare every two runs, episode by episode, where their seeds are the same."""
    pairs = [_difference(first, other) for first, other in combinations(runs, 2)]
    compared = [each.results for each in pairs if each.results is not None]
    if not compared:
        return pairs
    from simscaleai_plugin_gym.evaluate.intervals import holm

    corrected = iter(holm([results["p_value"] for results in compared]))
    return [
        each
        if each.results is None
        else evolve(each, results={**each.results, "p_value_corrected": next(corrected)})
        for each in pairs
    ]


def verdict_of(difference: Difference) -> str:
    """Return whether the second run of a pair is better, worse, or not told apart."""
    results = difference.results
    if results is None or results["p_value_corrected"] > _CHANCE:
        return "undecided"
    return "better" if results["difference"] > 0 else "worse"


def best_of(runs: Sequence[Run], pairs: Sequence[Difference]) -> str:
    """Say which run succeeds most often, and than which others it is better beyond chance.

    Args:
        runs: At least one.
        pairs: What `differences` returns of them.

    Returns:
        Sentences; nothing if no run has an evaluation.
    """
    rates = {run.name: run.evaluation.rate for run in runs if run.evaluation is not None}
    if not rates:
        return ""
    best = max(rates, key=lambda name: rates[name])
    said = {"better": "", "undecided": ""}
    for verdict in said:
        others = [
            each.second if each.first == best else each.first
            for each in pairs
            if best in (each.first, each.second)
            and each.results is not None
            and (verdict_of(each) == "undecided") == (verdict == "undecided")
        ]
        said[verdict] = " and ".join(filter(None, [", ".join(others[:-1]), *others[-1:]]))
    return " ".join(
        [
            f"{best} succeeds most often, in {rates[best]:.1%} of its episodes.",
            *([f"It is better than {said['better']} beyond chance."] if said["better"] else []),
            *([f"It is not told apart from {said['undecided']}."] if said["undecided"] else []),
        ]
    )


def settings_that_differ(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Return each setting that is not the same in all runs that have a checkpoint.

    Returns:
        Its value in each run, by its name.
    """
    tables = [{} if r.checkpoint is None else _flat(_settings(r.checkpoint)) for r in runs]
    known = [table for table in tables if table]
    names = dict.fromkeys(name for table in known for name in table)
    return {
        name: [str(table.get(name, _MISSING)) for table in tables]
        for name in names
        if len({str(table.get(name, _MISSING)) for table in known}) > 1
    }


def _difference(first: Run, other: Run) -> Difference:
    found, reason = None, ""
    one, two = first.evaluation, other.evaluation
    if one is None or two is None:
        reason = f"{first.name if one is None else other.name} has no evaluation"
    elif one.env != two.env:
        reason = f"they ran in different environments, {one.env!r} and {two.env!r}"
    elif any(len(each.distinct_seeds) < len(each.seeds) for each in (one, two)):
        reason = "an episode counts for each of several policy seeds. Evaluate both with one"
    elif list(one.seeds) != list(two.seeds):
        reason = "their seeds are not the same. Evaluate both with the same --seed and --episodes"
    else:
        found, reason = _compared(one.results, two.results)
    return Difference(first=first.name, second=other.name, results=found, reason=reason)


def _compared(
    one: Mapping[str, Any], two: Mapping[str, Any]
) -> tuple[Mapping[str, Any] | None, str]:
    try:
        from simscaleai_plugin_gym.evaluate.comparison import compare
    except ImportError:
        return None, "it takes pip install simscaleai-plugin-gym"
    try:
        found = compare(one, two)
    except SimScaleError as error:
        return None, str(error)
    return {k: v for k, v in found.items() if k not in {"first", "second", "seeds"}}, ""


def _settings(checkpoint: CheckpointFacts) -> dict[str, Any]:
    config = attrs.asdict(checkpoint.config)
    left_out = _PLACES | _GIVEN if checkpoint.settings else _PLACES
    named = {name.rpartition(".")[2] for name in checkpoint.settings}
    hparams = checkpoint.policy.get("hparams") or {}
    return {
        **{name: value for name, value in config.items() if name not in left_out},
        **checkpoint.settings,
        "policy": {name: value for name, value in hparams.items() if name not in named},
        "parameters": checkpoint.num_parameters,
        "data": data_sizes(checkpoint),
        "facts": {k: v for k, v in checkpoint.facts.items() if k not in {"data", "policy"}},
    }


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
