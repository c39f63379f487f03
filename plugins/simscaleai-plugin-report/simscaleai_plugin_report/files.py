"""The files of a run, read with a line for each fault instead of an error."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from attrs import frozen
from simscaleai_plugin_data.view.drawing import number_text

_MAX_BYTES = 2**26  # of a JSON file, and of a row of the metrics


@frozen(kw_only=True)
class Curve:
    """One metric over the steps.

    N: rows that have it.
    """

    steps: npt.NDArray[np.float64]
    """Where it was logged `[N]` [steps]."""
    values: npt.NDArray[np.float64]
    """Its values `[N]`; NaN where it was not finite."""


def read_object(path: Path, problems: list[str]) -> dict[str, Any] | None:
    """Read a file that holds one JSON object.

    Args:
        path: The file.
        problems: Gets a line if it cannot be read or holds something else.

    Returns:
        The object, or None.
    """
    try:
        with path.open("rb") as file:
            found = _object(file.read(_MAX_BYTES))
    except OSError as error:
        problems.append(f"{path} cannot be read: {error.strerror or error}.")
        return None
    if found is None:
        problems.append(f"{path} is broken: expected one JSON object. Write it again.")
    return found


def read_curves(path: Path, problems: list[str]) -> dict[str, Curve]:
    """Read the metrics that a run logged.

    Args:
        path: Its ``metrics.jsonl``.
        problems: Gets a line if it is missing, cannot be read, or has rows that are no metrics;
            half a row at the end, of a killed run, is none.

    Returns:
        The curves by their names.
    """
    if not path.is_file():
        problems.append(f"there is no {path}: there are no curves. Train with the logger jsonl.")
        return {}
    points: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    broken: list[int] = []
    try:
        for number, row in _rows(path):
            if row is None:
                broken.append(number)
                continue
            for name, value in _numbers(row):
                points[name][0].append(float(row["step"]))
                points[name][1].append(value)
    except OSError as error:
        problems.append(f"{path} cannot be read: {error.strerror or error}.")
    if broken:
        problems.append(
            f"{path} is broken: expected a JSON object with a step in each line, got something "
            f"else in {len(broken)}, the first @ line {broken[0]}. They are left out."
        )
    return {n: Curve(steps=np.array(s), values=np.array(v)) for n, (s, v) in points.items()}


def is_number(value: Any) -> bool:
    """Return whether a value of JSON is a number that can be shown, finite or not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


def p_text(value: float) -> str:
    """Return a p-value as text; how small a very small one is matters to nobody."""
    return number_text(round(value, 4)) if value >= 0.001 else "< 0.001"


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Yield the number of each line and its object, or None if it is none or has no step."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(_MAX_BYTES):
            number += 1
            row = _object(line)
            if row is not None and is_number(row.get("step")):
                yield number, row
            elif line.endswith(b"\n") or len(line) == _MAX_BYTES:
                yield number, None


def _numbers(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in row.items():
        if name == "step":
            continue
        if is_number(value):
            yield name, float(value)
        elif value is None or isinstance(value, (int, float)):  # as written of one not finite
            yield name, math.nan


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(text.decode())
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
