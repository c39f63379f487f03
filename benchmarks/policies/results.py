"""What was measured, against its target; kept as JSON, from which the page is rendered."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from attrs import asdict, frozen
from simscaleai_plugin_gym.evaluate.intervals import wilson

_ABOUT = """\
Rates are over episodes with fixed seeds from 10000, with Wilson's 95% interval; where training
seeds are pooled, the count of each is given. What was chosen by its success was chosen on other
seeds, from 20000. Training is the processor time of the whole process, on one thread unless a row
says otherwise. The commands of every row are in `{file}`.

Demonstrations have seeds from 0. In Meta-World a seed draws the layout of object and goal from the
distribution of its 50 tasks, so that the evaluation's layouts are new; an episode ends at success,
as in its own evaluation, or after 500 steps. Its experts' failed episodes are dropped."""


@frozen(kw_only=True)
class Measure:
    """One number of the table."""

    what: str
    value: float
    unit: str
    """``"%"`` for a fraction of episodes, else the unit that is printed."""
    at_least: float | None = None
    at_most: float | None = None
    n: int | None = None
    """Episodes, if the value is a fraction of them."""
    interval: tuple[float, float] | None = None
    """Wilson's 95% interval."""
    detail: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.at_least is not None:
            return self.value >= self.at_least
        return None if self.at_most is None else self.value <= self.at_most


def rate(
    what: str,
    evaluations: Sequence[dict[str, Any]],
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    detail: str = "",
) -> Measure:
    """Pool the success of some evaluations or recordings.

    Args:
        what: Text of the table.
        evaluations: Each with ``success_rate`` and ``n_episodes``.
        at_least: Target, if it is a lower bound.
        at_most: Target, if it is an upper bound.
        detail: Text of the last column; each evaluation's own rate if there are several.
    """
    counts = [round(e["success_rate"] * e["n_episodes"]) for e in evaluations]
    n = sum(e["n_episodes"] for e in evaluations)
    each = ", ".join(f"{c}/{e['n_episodes']}" for c, e in zip(counts, evaluations, strict=True))
    said = [each] if len(counts) > 1 else []
    return Measure(
        what=what,
        value=sum(counts) / n,
        unit="%",
        at_least=at_least,
        at_most=at_most,
        n=n,
        interval=wilson(sum(counts), n),
        detail="; ".join([*said, *([detail] if detail else [])]),
    )


def facts() -> dict[str, Any]:
    """Say when and with what; nothing that names the machine."""
    names = ("simscaleai-core", "torch", "numpy", "mujoco", "gymnasium")
    return {
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "load_average_1min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": ", ".join(f"{name} {version(name)}" for name in names),
    }


class Results:
    """Rows by name in a JSON file, and the page beside it.

    Args:
        path: JSON file; what it holds already stays until its row is measured again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """What the file holds now; another process may add to it."""
        if not self._path.exists():
            return {}
        rows: dict[str, dict[str, Any]] = json.loads(self._path.read_text("utf-8"))["rows"]
        return rows

    def put(
        self, name: str, measures: Sequence[Measure], commands: Sequence[str], problem: str = ""
    ) -> None:
        """Replace a row and write both files."""
        row = {
            "facts": facts(),
            "problem": problem,
            "measures": [{**asdict(m), "met": m.met} for m in measures],
            "commands": list(commands),
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"rows": {**self.rows, name: row}}, indent=1)
        self._path.write_text(text + "\n", encoding="utf-8")

    def write_page(self, order: Sequence[str]) -> str:
        """Write the page of the rows, in that order, beside the JSON file, and return it."""
        rows = self.rows
        known = {name: rows[name] for name in order if name in rows}
        parts = [
            "# Policies in closed loop",
            "```\nmake bench-policies\n```",
            _machines(known),
            _ABOUT.format(file=self._path.name),
            _table(known),
            *_problems(known),
        ]
        text = "\n\n".join(parts) + "\n"
        self._path.with_suffix(".md").write_text(text, encoding="utf-8")
        return text


def _machines(rows: dict[str, dict[str, Any]]) -> str:
    seen: dict[str, list[str]] = {}
    for row in rows.values():
        about = row["facts"]
        key = f"{about['machine']}; python {about['python']}, {about['versions']}"
        seen.setdefault(key, []).append(about["when"])
    spans = {key: " to ".join(sorted({min(when), max(when)})) for key, when in seen.items()}
    return "\n".join(f"- {span}: {key}" for key, span in spans.items())


def _table(rows: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| row | what | measured | n | 95% interval | target | | |",
        "|---|---|---:|---:|---|---|---|---|",
    ]
    for name, row in rows.items():
        lines += [_line(name, measure) for measure in row["measures"]]
    return "\n".join(lines)


def _line(name: str, m: dict[str, Any]) -> str:
    low_high = " to ".join(shown(v, "%") for v in m["interval"]) if m["interval"] else ""
    sign, bound = (">=", m["at_least"]) if m["at_least"] is not None else ("<=", m["at_most"])
    target = "" if bound is None else f"{sign} {shown(bound, m['unit'])}"
    verdict = {True: "met", False: "MISSED", None: ""}[m["met"]]
    cells = (name, m["what"], shown(m["value"], m["unit"]), m["n"] or "", low_high, target)
    return "| " + " | ".join([*map(str, cells), verdict, m["detail"]]) + " |"


def shown(value: float, unit: str) -> str:
    """Return a number as the table shows it."""
    return f"{100 * value:.1f}%" if unit == "%" else f"{value:.4g} {unit}"


def _problems(rows: dict[str, dict[str, Any]]) -> list[str]:
    lines = [f"- `{name}`: {row['problem']}" for name, row in rows.items() if row["problem"]]
    return ["## Not measured to the end\n\n" + "\n".join(lines)] if lines else []
