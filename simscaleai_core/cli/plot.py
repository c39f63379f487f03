"""``simscale plot``: the curves of a run as a picture."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from simscaleai_core.cli.output import print_facts
from simscaleai_core.cli.pictures import new_figure
from simscaleai_core.cli.terminal import escaped
from simscaleai_core.errors import DataError

_PANELS = (
    ("loss", ("train/loss", "eval/loss"), "log"),
    ("learning rate", ("train/lr",), "linear"),
    ("gradient norm", ("train/grad_norm",), "log"),
)
_MAX_POINTS = 8192  # of a curve; a panel is less than 500 pixels wide
_MAX_DRAWN = 1e100  # matplotlib's own arithmetic overflows not far above; NaN is not below it
_MAX_BYTES = 2**20  # of a row, and of an evaluation


def plot(directory: Path, /, *, output: Path | None = None) -> int:
    """Draw the curves of a run from its metrics.jsonl, and its evaluation if there is one.

    Args:
        directory: The run's checkpoint directory.
        output: The picture; curves.png in the directory if not given.

    Returns:
        0.

    Raises:
        SimScaleError: If the directory has no metrics, or they are broken; or if the picture
            cannot be of the kind that its name ends in, or matplotlib is not installed.
    """
    curves = _curves(directory / "metrics.jsonl")
    headline = _headline(directory / "eval.json")
    target = output or directory / "curves.png"
    figure = new_figure(target, 11, 3.2)
    panels = figure.subplots(1, len(_PANELS))
    for axes, (title, names, scale) in zip(panels, _PANELS, strict=True):
        shown = [name for name in names if curves[name].steps]
        for name in shown:
            axes.plot(curves[name].steps, curves[name].values, label=name)
        axes.set_title(title)
        axes.set_xlabel("step")
        axes.set_yscale(scale)
        axes.grid(alpha=0.3)
        if len(names) > 1 and shown:
            axes.legend()
    figure.suptitle(headline, parse_math=False)
    figure.savefig(target, dpi=120)
    print_facts({"picture": target})
    return 0


class _Curve:
    """One metric over the steps, in bounded memory: peaks stay, what lies between them is thinned.

    Of every `_span` points the lowest and the highest are kept; whenever there are too many, the
    span is doubled.
    """

    def __init__(self) -> None:
        self.steps = array("d")
        self.values = array("d")
        self._span = 2
        self._settled = 0

    def add(self, step: float, value: float) -> None:
        """Add a point; one that cannot be drawn is left out."""
        if not (abs(step) < _MAX_DRAWN and abs(value) < _MAX_DRAWN):
            float(step), float(value)  # an integer may be too large to be a number of ours at all
            return
        self.steps.append(step)
        self.values.append(value)
        if len(self.values) - self._settled == self._span:
            self._settle(self._settled)
        if len(self.values) >= _MAX_POINTS and self._settled == len(self.values):
            self._span *= 2
            settled, self._settled = self._settled, 0
            steps, values = self.steps, self.values
            self.steps, self.values = array("d"), array("d")
            for at in range(0, settled, 4):
                self.steps.extend(steps[at : at + 4])
                self.values.extend(values[at : at + 4])
                self._settle(self._settled)

    def _settle(self, start: int) -> None:
        """Keep two of the points from `start` on: the first lowest and the last highest."""
        tail = self.values[start:]
        lowest = tail.index(min(tail))
        highest = len(tail) - 1 - tail[::-1].index(max(tail))  # both ends, if all are equal
        kept = [start + place for place in sorted({lowest, highest})]
        for points in (self.steps, self.values):
            points[start:] = array("d", [points[place] for place in kept])
        self._settled = len(self.values)


def _curves(path: Path) -> Mapping[str, _Curve]:
    if not path.is_file():
        raise DataError(
            f"no metrics at {path}: expected the directory of a run that logged to jsonl.",
            path=path,
        )
    curves = {name: _Curve() for _, names, _ in _PANELS for name in names}
    for number, row in _rows(path):
        try:
            step = row["step"]
            for name, curve in curves.items():
                if (value := row.get(name)) is not None:
                    curve.add(step, value)
        except (KeyError, TypeError, OverflowError) as error:
            raise _broken(path, f"line {number}", f"a step and numbers, got {row!r}") from error
    return curves


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number and the object of each line; half a line at the end is of a killed run."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(_MAX_BYTES):
            number += 1
            row = _object(line)
            if row is not None:
                yield number, row
            elif line.endswith(b"\n") or len(line) == _MAX_BYTES:
                raise _broken(path, f"line {number}", f"a JSON object, got {line[:80]!r}")


def _headline(path: Path) -> str:
    if not path.is_file():
        return escaped(path.parent.name)
    with path.open("rb") as file:
        found = _object(file.read(_MAX_BYTES)) or {}
    try:
        low, high = found["success_rate_ci95"]
        return (
            f"{escaped(str(found.get('env', '')))[:60]}: success {found['success_rate']:.1%} of "
            f"{found['n_episodes']:d} unseen episodes (95% interval {low:.1%} to {high:.1%})"
        )
    except (KeyError, TypeError, ValueError) as error:
        wanted = "what simscale eval --output writes"
        raise _broken(path, "its JSON object", wanted, "Evaluate again.") from error


def _object(text: bytes) -> dict[str, Any] | None:
    """Return a JSON object, or None if the text is something else."""
    try:
        found = json.loads(text.decode())  # faster than to let it guess the encoding
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _broken(path: Path, place: str, wanted: str, advice: str = "Remove that line.") -> DataError:
    return DataError(f"{path} is broken: expected {wanted} @ {place}. {advice}", path=path)
