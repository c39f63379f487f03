"""Sweeps and comparisons of several policies as text: what was found in words, then tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

from simscaleai_core.cli.output import print_table, print_text

CONTROL = "expert"
"""Name of the scripted expert among the policies of a sweep."""

_WIDTH = 80
_PADDING = 3  # of a column, in a terminal
_ALPHA = 0.05
_RATE = len("0.98 [0.93, 0.99]*")
_AGAINST = len("nominal") + len("< 0.001")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_TOGETHER = "\N{NO-BREAK SPACE}"  # where no line may break

_NUMBERS = re.compile(r"[-+.\d]+ \[[^]]*\]|p < 0\.\d+")

Cell = Mapping[str, Any]


def print_sweep(results: Mapping[str, Any]) -> None:
    """Print a sweep.

    Args:
        results: Of `sweep_checkpoints`.
    """
    for line in results["answer"]:
        _print_filled(line, indent="  ")
    for policy in results["policies"]:
        print_text("")
        _print_policy(policy, _cells(policy, results), results)
    print_text("")
    _print_filled(
        f"Nominal: {_named(results['nominal'])}. [low, high]: 95% interval. *: differs from the "
        f"nominal condition, p below {_ALPHA} after Holm's correction for all conditions of all "
        "policies."
    )


def answer(results: Mapping[str, Any]) -> list[str]:
    """Return what a sweep found, in words.

    Args:
        results: Of `sweep_checkpoints`.

    Returns:
        A sentence for each policy: its worst condition, how sure the difference is, and what the
        expert reaches there.
    """
    return [_answer(policy, results) for policy in results["policies"]]


def _answer(policy: str, results: Mapping[str, Any]) -> str:
    cells = _cells(policy, results)
    nominal = next(cell for cell in cells if _is_nominal(cell, results))
    worst = min(cells, key=lambda cell: (cell["success_rate"], len(_changed(cell, results))))
    if worst["success_rate"] >= nominal["success_rate"]:
        return f"{policy}: no condition is worse than the nominal one, success {_rate(nominal)}."
    doubt = "" if _is_sure(worst) else ": that may be chance"
    sentences = [
        (
            f"{policy}: worst with {_named(_changed(worst, results))}, success {_rate(worst)} "
            f"against {_rate(nominal)} in the nominal condition; difference {_difference(worst)}, "
            f"corrected p {_p(worst['p_value_corrected'])}{doubt}."
        )
    ]
    if policy != CONTROL:
        there = [c for c in _cells(CONTROL, results) if c["condition"] == worst["condition"]]
        sentences += [f"The expert there: {_rate(cell)}." for cell in there]
    num_worse = sum(_is_sure(cell) and cell["difference"] < 0 for cell in cells)
    if len(cells) > 2:
        sentences.append(f"{num_worse} of {len(cells) - 1} conditions are worse (p < {_ALPHA}).")
    return " ".join(sentences)


def _cells(policy: str, results: Mapping[str, Any]) -> list[Cell]:
    return [cell for cell in results["cells"] if cell["policy"] == policy]


def _changed(cell: Cell, results: Mapping[str, Any]) -> dict[str, float]:
    nominal = results["nominal"]
    return {name: value for name, value in cell["condition"].items() if value != nominal[name]}


def _print_policy(policy: str, cells: Sequence[Cell], results: Mapping[str, Any]) -> None:
    title = f"{policy}: success in {results['n_episodes']} episodes"
    names = list(results["varied"])
    for down, across in (names, names[::-1]) if len(names) == 2 else ():
        headers = [down, *(f"{across} {value:g}" for value in results["varied"][across])]
        if _fits([len(down), *(max(len(each), _RATE) for each in headers[1:])]):
            at = {(c["condition"][down], c["condition"][across]): c for c in cells}
            rows = [
                [f"{value:g}", *(_marked(at[value, o], results) for o in results["varied"][across])]
                for value in results["varied"][down]
            ]
            print_table(rows, headers=headers, title=title)
            return
    _print_list(title, cells, results)


def _print_list(title: str, cells: Sequence[Cell], results: Mapping[str, Any]) -> None:
    names = list(results["varied"])
    if not _fits([*map(len, names), _RATE, _AGAINST, 0]):
        letters = _LETTERS[: len(names)]
        legend = ", ".join(f"{letter} {name}" for letter, name in zip(letters, names, strict=True))
        _print_filled(legend)
        names = list(letters)
    rows = []
    for cell in cells:
        against = ["nominal", ""]
        if not _is_nominal(cell, results):
            against = [f"{cell['difference']:+.2f}", _p(cell["p_value_corrected"])]
        values = [f"{value:g}" for value in cell["condition"].values()]
        rows.append([*values, _marked(cell, results), *against])
    print_table(rows, headers=[*names, "success", "change", "p"], title=title)


def print_pairs(results: Mapping[str, Any]) -> None:
    """Print the comparison of three or more policies.

    Args:
        results: Of `compare_all`.
    """
    numbers = {policy: str(index) for index, policy in enumerate(results["policies"], start=1)}
    rows = [[numbers[r["checkpoint"]], _rate(r), r["checkpoint"]] for r in results["results"]]
    title = f"success in {results['n_episodes']} episodes"
    print_table(rows, headers=["", "success", "policy"], title=title)
    rows = [
        [
            f"{numbers[pair['second']]} - {numbers[pair['first']]}",
            _difference(pair),
            str(pair["n_discordant"]),
            _p(pair["p_value_corrected"]),
        ]
        for pair in results["pairs"]
    ]
    headers = ["", "difference", "discordant", "p (Holm)"]
    print_table(rows, headers=headers, title="differences of success")


def _fits(widths: Sequence[int]) -> bool:
    return sum(widths) + _PADDING * len(widths) < _WIDTH


def _print_filled(text: str, indent: str = "") -> None:
    whole = _NUMBERS.sub(lambda found: found[0].replace(" ", _TOGETHER), text)
    print_text(fill(whole, _WIDTH - 1, subsequent_indent=indent).replace(_TOGETHER, " "))


def _marked(cell: Cell, results: Mapping[str, Any]) -> str:
    is_marked = not _is_nominal(cell, results) and _is_sure(cell)
    return _rate(cell) + ("*" if is_marked else "")


def _is_sure(cell: Cell) -> bool:
    return bool(cell["p_value_corrected"] < _ALPHA)


def _is_nominal(cell: Cell, results: Mapping[str, Any]) -> bool:
    return bool(cell["condition"] == results["nominal"])


def _rate(cell: Cell) -> str:
    return f"{cell['success_rate']:.2f} {_interval(cell['success_rate_ci95'])}"


def _difference(cell: Cell) -> str:
    return f"{cell['difference']:+.2f} {_interval(cell['difference_ci95'])}"


def _interval(bounds: Sequence[float]) -> str:
    return f"[{bounds[0]:.2f}, {bounds[1]:.2f}]"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _named(condition: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in condition.items())
