"""``simscale plot``: the curves of a run as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from simscaleai_core.cli.output import print_facts
from simscaleai_core.errors import DataError, PluginError

_PANELS = (
    ("loss", ("train/loss", "eval/loss"), "log"),
    ("learning rate", ("train/lr",), "linear"),
    ("gradient norm", ("train/grad_norm",), "log"),
)


def plot(directory: Path, /, *, output: Path | None = None) -> int:
    """Draw the curves of a run from its metrics.jsonl, and its evaluation if there is one.

    Args:
        directory: The run's checkpoint directory.
        output: The picture; curves.png in the directory if not given.

    Returns:
        0.

    Raises:
        DataError: If the directory has no metrics.
        PluginError: If matplotlib is not installed.
    """
    rows = _rows(directory / "metrics.jsonl")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PluginError(
            "pictures need matplotlib. Install it: pip install 'simscaleai-core[plot]'.",
            plugin="matplotlib",
        ) from error
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    panels = figure.subplots(1, len(_PANELS))
    for axes, (title, names, scale) in zip(panels, _PANELS, strict=True):
        for name in names:
            points = [(r["step"], r[name]) for r in rows if r.get(name) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), label=name)
        axes.set_title(title)
        axes.set_xlabel("step")
        axes.set_yscale(scale)
        axes.grid(alpha=0.3)
        if len(names) > 1:
            axes.legend()
    figure.suptitle(_headline(directory / "eval.json"))
    target = output or directory / "curves.png"
    figure.savefig(target, dpi=120)
    print_facts({"picture": target})
    return 0


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise DataError(
            f"no metrics at {path}: expected the directory of a run that logged to jsonl.",
            path=path,
        )
    return [json.loads(line) for line in path.read_text().splitlines()]


def _headline(path: Path) -> str:
    if not path.is_file():
        return path.parent.name
    found = json.loads(path.read_text())
    low, high = found["success_rate_ci95"]
    return (
        f"{found.get('env', '')}: success {found['success_rate']:.1%} of {found['n_episodes']} "
        f"unseen episodes (95% interval {low:.1%} to {high:.1%})"
    )
