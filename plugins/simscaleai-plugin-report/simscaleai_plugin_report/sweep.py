"""A sweep of conditions, as ``simscale eval --vary`` wrote it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from attrs import frozen

from simscaleai_plugin_report.files import is_number, p_text, read_object
from simscaleai_plugin_report.heatmap import HeatMap, Share, heat_map

_KIND = "sweep"
_MOST_MAPS = 24
_LONGEST = 14  # name of a policy beside its row
_SIGNIFICANT = 0.05
_DOWN, _UP, _DASH = "\u2193", "\u2191", "\u2013"


@frozen(kw_only=True)
class Sweep:
    """Success of some policies under some conditions."""

    path: Path
    """Its file."""
    results: Mapping[str, Any]
    """All that is in the file."""

    @property
    def varied(self) -> Mapping[str, Sequence[Any]]:
        """The values of each quantity that was varied."""
        found: Mapping[str, Sequence[Any]] = self.results["varied"]
        return found

    @property
    def policies(self) -> Sequence[str]:
        """The policies, by their names."""
        found: Sequence[str] = self.results["policies"]
        return found

    @property
    def cells(self) -> Sequence[Mapping[str, Any]]:
        """The results of each policy under each condition."""
        found: Sequence[Mapping[str, Any]] = self.results["cells"]
        return found

    @property
    def answer(self) -> Sequence[str]:
        """What it found, in sentences."""
        found = self.results.get("answer")
        return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []

    def is_nominal(self, condition: Mapping[str, Any]) -> bool:
        """Return whether a condition is the one that the others are compared with."""
        return dict(condition) == self.results.get("nominal")

    def cell(self, policy: str, condition: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return the results of a policy under a condition, or None if there are none."""
        wanted = dict(condition)
        return next(
            (c for c in self.cells if c["policy"] == policy and c["condition"] == wanted), None
        )


def read_sweeps(directory: Path, problems: list[str]) -> list[Sweep]:
    """Read the sweeps that lie in a run's folder.

    Args:
        directory: The run's checkpoint directory.
        problems: Gets a line for each that is broken.

    Returns:
        The sweeps, in order of their names.
    """
    silent: list[str] = []
    found = []
    for path in sorted(directory.glob("*.json")):
        results = read_object(path, silent) if path.is_file() else None
        if results is not None and results.get("kind") == _KIND:
            found.append(_sweep(path, results, problems))
    return [each for each in found if each is not None]


def read_sweep(path: Path, problems: list[str]) -> Sweep | None:
    """Read a sweep that was named.

    Args:
        path: Its file.
        problems: Gets a line if it cannot be read, is broken, or is no sweep.

    Returns:
        The sweep, or None.
    """
    results = read_object(path, problems)
    return None if results is None else _sweep(path, results, problems)


def maps_of(sweep: Sweep) -> list[HeatMap]:
    """Return a sweep as pictures.

    With one quantity the policies are the rows of a picture; with more there is a picture of the
    first two for each policy and each value of the others.
    """
    names = list(sweep.varied)
    if len(names) == 1:
        (name,) = names
        values = sweep.varied[name]
        shares = [[_share(sweep, p, {name: v}) for p in sweep.policies[::-1]] for v in values]
        axis = _names(sweep.policies)[::-1]
        title = f"success by {name}"
        return [heat_map(shares, across=(name, _texts(values)), up=("", axis), title=title)]
    one, two, *others = names
    combinations = product(sweep.policies, *(sweep.varied[name] for name in others))
    return [
        _map(sweep, policy, (one, two), dict(zip(others, rest, strict=True)))
        for policy, *rest in list(combinations)[:_MOST_MAPS]
    ]


def rows_of(sweep: Sweep) -> list[dict[str, Any]]:
    """Return the rows of a sweep's table."""
    return [
        {
            "policy": cell["policy"],
            "condition": [_text(cell["condition"].get(name, "")) for name in sweep.varied],
            "is_nominal": sweep.is_nominal(cell["condition"]),
            "percent": f"{cell['success_rate']:.1%}",
            "rate": 100 * cell["success_rate"],
            "low": 100 * cell["success_rate_ci95"][0],
            "high": 100 * cell["success_rate_ci95"][1],
            "sentence": f"{_interval(cell)} succeed",
            **_difference(cell),
        }
        for cell in sweep.cells
    ]


def _map(sweep: Sweep, policy: str, axes: tuple[str, str], rest: Mapping[str, Any]) -> HeatMap:
    one, two = axes
    shares = [
        [_share(sweep, policy, {one: x, two: y, **rest}) for y in sweep.varied[two]]
        for x in sweep.varied[one]
    ]
    said = "".join(f", {name} {_text(value)}" for name, value in rest.items())
    return heat_map(
        shares,
        across=(one, _texts(sweep.varied[one])),
        up=(two, _texts(sweep.varied[two])),
        title=f"{policy}{said}",
    )


def _share(sweep: Sweep, policy: str, condition: Mapping[str, Any]) -> Share | None:
    cell = sweep.cell(policy, condition)
    if cell is None:
        return None
    low, high = cell["success_rate_ci95"]
    where = ", ".join(f"{name} {_text(value)}" for name, value in condition.items())
    return Share(
        share=cell["success_rate"],
        below=f"{100 * low:.0f}{_DASH}{100 * high:.0f}{_arrow(cell)}",
        title=f"{policy}, {where}: {_interval(cell)} succeed",
        is_marked=sweep.is_nominal(condition),
    )


def _arrow(cell: Mapping[str, Any]) -> str:
    p_value = cell.get("p_value_corrected")
    if not is_number(p_value) or float(p_value or 0) >= _SIGNIFICANT:
        return ""
    return f" {_UP if cell['difference'] > 0 else _DOWN}"


def _interval(cell: Mapping[str, Any]) -> str:
    low, high = cell["success_rate_ci95"]
    return f"{cell['success_rate']:.1%} ({low:.1%} to {high:.1%}) of {cell['n_episodes']} episodes"


def _difference(cell: Mapping[str, Any]) -> dict[str, str]:
    difference, ends = cell.get("difference"), cell.get("difference_ci95")
    p_value = cell.get("p_value_corrected")
    return {
        "difference": "" if difference is None else f"{100 * difference:+.1f}",
        "ends": "" if ends is None else f"{100 * ends[0]:+.1f} to {100 * ends[1]:+.1f}",
        "p_value": "" if p_value is None else p_text(p_value),
    }


def _sweep(path: Path, results: Mapping[str, Any], problems: list[str]) -> Sweep | None:
    fault = next(_faults(results), None)
    if fault is None:
        return Sweep(path=path, results=results)
    problems.append(f"{path} is no sweep that can be shown: expected {fault}. Sweep again.")
    return None


def _faults(found: Mapping[str, Any]) -> Iterator[str]:
    varied, policies, cells = (found.get(k) for k in ("varied", "policies", "cells"))
    if found.get("kind") != _KIND:
        yield f"{_KIND!r} @ kind, got {found.get('kind')!r:.80}"
    if not isinstance(varied, dict) or not varied or not all(map(_is_filled, varied.values())):
        yield f"an object with the values of each quantity @ varied, got {varied!r:.80}"
    if not _is_filled(policies) or not all(isinstance(p, str) for p in policies or ()):
        yield f"a list of names @ policies, got {policies!r:.80}"
    if not _is_filled(cells):
        yield f"a list of results @ cells, got {cells!r:.80}"
        return
    for place, cell in enumerate(cells or ()):
        if not _is_cell(cell):
            yield f"policy, condition, success_rate, its interval and more @ cells {place}"


def _is_filled(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


def _is_cell(cell: Any) -> bool:
    if not isinstance(cell, dict) or not isinstance(cell.get("condition"), dict):
        return False
    rate, ends, p_value = (
        cell.get(k) for k in ("success_rate", "difference_ci95", "p_value_corrected")
    )
    return (
        isinstance(cell.get("policy"), str)
        and is_number(cell.get("n_episodes"))
        and is_number(rate)
        and 0 <= float(rate or 0) <= 1
        and _is_pair(cell.get("success_rate_ci95"))
        and (p_value is None or (is_number(p_value) and is_number(cell.get("difference"))))
        and (cell.get("difference") is None or is_number(cell["difference"]))
        and (ends is None or _is_pair(ends))
    )


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(is_number, value))


def _texts(values: Sequence[Any]) -> list[str]:
    return [_text(value) for value in values]


def _text(value: Any) -> str:
    return f"{value + 0.0:.3g}" if is_number(value) else str(value)


def _names(policies: Sequence[str]) -> list[str]:
    """Return names that fit beside rows: without the first and last folders that all share."""
    parts = [policy.split("/") for policy in policies if "/" in policy]
    if len(parts) > 1:
        shared = [len(set(p)) == 1 for p in zip(*parts, strict=False)]
        first = shared.index(False) if False in shared else 0
        last = [len(set(p)) == 1 for p in zip(*(each[::-1] for each in parts), strict=False)]
        end = last.index(False) if False in last else 0
        cut = {"/".join(p): "/".join(p[first : len(p) - end]) for p in parts}
    else:
        cut = {"/".join(p): p[-1] for p in parts}
    names = [cut.get(policy, policy) for policy in policies]
    return [name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}\u2026" for name in names]
