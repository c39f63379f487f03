"""Where a policy succeeds: its success over the space of initial conditions, in words too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen
from simscaleai_plugin_data.view.drawing import number_text

from simscaleai_plugin_report.evaluation import Evaluation
from simscaleai_plugin_report.files import p_text
from simscaleai_plugin_report.heatmap import HeatMap, Share, heat_map

if TYPE_CHECKING:
    from simscaleai_plugin_gym.evaluate.condition_map import SuccessMap

_ENOUGH = 100
"""Episodes from which on a map has at least three cells along each axis."""
_CHANCE = 0.05
_MOST_NAMED = 6
_LONG, _MANY = 6, 4  # letters of a label, and labels, from which on they would touch


@frozen(kw_only=True)
class Conditions:
    """What the initial conditions of an evaluation tell of its success."""

    success_map: SuccessMap | None
    """Success over two quantities, if two vary."""
    words: str
    """Which two these are and why, or why there is no map."""
    hint: str = ""
    """What to do for a better map, or nothing."""
    common: Sequence[Mapping[str, Any]] = ()
    """What failed episodes have in common, as `commonalities` of the gym plugin returns it."""


def read_conditions(evaluation: Evaluation) -> Conditions:
    """Return where a policy succeeds."""
    number = evaluation.num_episodes
    conditions = evaluation.initial_conditions
    if not conditions:
        words = "The evaluation does not say how its episodes began: evaluate again."
        return Conditions(success_map=None, words=words)
    try:
        from simscaleai_plugin_gym.evaluate.commonalities import commonalities
        from simscaleai_plugin_gym.evaluate.condition_map import success_map
    except ImportError:
        words = "Where the policy succeeds is left out: it takes pip install simscaleai-plugin-gym."
        return Conditions(success_map=None, words=words)
    successes = [bool(each) for each in evaluation.results["successes"]]
    found = success_map(conditions, successes)
    common = commonalities(conditions, successes)
    if found is None:
        words = "There is no map of success: fewer than two numbers of how the episodes began vary."
        return Conditions(success_map=None, words=words, common=common)
    hint = _hint(len(evaluation.distinct_seeds), number)
    return Conditions(success_map=found, words=_words(found), hint=hint, common=common)


def drawn(found: SuccessMap) -> HeatMap:
    """Return a success map as a picture."""
    shares = [
        [_share(found, i, j) for j in range(found.counts.shape[1])]
        for i in range(found.counts.shape[0])
    ]
    across, up = ((name, _spaced(found.labels(axis))) for axis, name in enumerate(found.names))
    return heat_map(shares, across=across, up=up, title="success over the initial conditions")


def words_of_common(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say whether failed episodes began in another way than successful ones."""
    differ = [row["name"] for row in rows if row["p_value_corrected"] <= _CHANCE]
    if not differ:
        return (
            f"None of the {len(rows)} numbers that vary is higher or lower in failed episodes than "
            "chance explains."
        )
    others = f" of the {len(rows)} numbers that vary" if len(rows) > 1 else ""
    names = ", ".join(differ[:_MOST_NAMED]) + (", ..." if len(differ) > _MOST_NAMED else "")
    return f"{len(differ)}{others} differ beyond chance between failed and successful: {names}."


def rows_of_common(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the rows of the table of what failures have in common, as text."""
    return [
        [
            row["name"],
            number_text(row["median_failed"]),
            number_text(row["median_successful"]),
            p_text(row["p_value_corrected"]),
            f"{row['failed_greater']:.0%}",
        ]
        for row in rows
    ]


def facts_of_map(found: SuccessMap) -> dict[str, Any]:
    """Return a success map as plain values."""
    return {
        "names": list(found.names),
        "edges": [edges.tolist() for edges in found.edges],
        "successes": found.successes.tolist(),
        "counts": found.counts.tolist(),
        "num_varying": found.num_varying,
        "p_value": found.p_value,
    }


def _share(found: SuccessMap, i: int, j: int) -> Share | None:
    good, count = int(found.successes[i, j]), int(found.counts[i, j])
    if not count:
        return None
    where = ", ".join(_where(found, axis, at) for axis, at in enumerate((i, j)))
    return Share(
        share=good / count,
        below=f"{good}/{count}",
        title=f"{where}: {good} of {count} episodes succeed",
    )


def _where(found: SuccessMap, axis: int, at: int) -> str:
    name, values, edges = found.names[axis], found.values[axis], found.edges[axis]
    if values is not None:
        return f"{name} {number_text(values[at])}"
    return f"{name} {number_text(edges[at])} to {number_text(edges[at + 1])}"


def _spaced(labels: Sequence[str]) -> list[str]:
    """Return words of which every second one is left out where they are long."""
    every = 2 if max(map(len, labels)) > _LONG and len(labels) > _MANY else 1
    return [label if place % every == 0 else "" for place, label in enumerate(labels)]


def _words(found: SuccessMap) -> str:
    one, two = found.names
    if found.num_varying == 2:
        first = f"These two, {one} and {two}, are all that varies in how the episodes began"
    elif found.p_value is None:
        return (
            f"All episodes ended alike, so {one} and {two} are simply the first two of the "
            f"{found.num_varying} numbers that vary in how the episodes began."
        )
    else:
        first = (
            f"Of the {found.num_varying} numbers that vary in how the episodes began, {one} and "
            f"{two} tell most about success together"
        )
    return f"{first}{_chance(found.p_value)}."


def _chance(p_value: float | None) -> str:
    if p_value is None:
        return ""
    words = f"with the outcomes shuffled, two tell as much in {p_value:.1%} of cases"
    if p_value > _CHANCE:
        return f"; {words}, so this pattern may well be chance"
    return f"; {words}, so this is hardly chance"


def _hint(number: int, counted: int) -> str:
    if counted > number:
        return "An episode counts for each policy seed: what is seen here looks surer than it is."
    if number >= _ENOUGH:
        return ""
    return (
        f"{number} episodes are few for a map: evaluate {2 * _ENOUGH} for finer cells, "
        f"with --episodes {2 * _ENOUGH}."
    )
