"""Rounds of interleaved contenders, and the table of what they took.

On a machine that others use too, the same program differs from one minute to the next by more than
the contenders differ from each other. So they take turns, and each is divided by the baseline of
its own round; the median of those ratios is what counts. On a busy machine the clock also counts
the time in which somebody else was served, so targets are judged by processor time.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from attrs import asdict, field, frozen


@frozen
class Cost:
    """What one unit of work took in one round."""

    wall_s: float
    """Time on the clock [s]."""
    cpu_s: float
    """Processor time; steadier than the clock where others compute too [s]."""


@frozen
class Summary:
    """One contender over all rounds; ratios are to the baseline of the same round."""

    name: str
    wall_s: float
    """Median time on the clock [s]."""
    cpu_s: float
    """Median processor time [s]."""
    ratio: float
    """Median ratio on the clock."""
    ratio_cpu: float
    """Median ratio of processor times."""
    ratio_cpu_low: float
    """Smallest ratio of processor times."""
    ratio_cpu_high: float
    """Largest ratio of processor times."""


@frozen
class Target:
    """A limit that this project's own row is held to."""

    what: str
    value: float
    limit: float

    def __str__(self) -> str:
        """Say whether the target is met."""
        verdict = "met" if self.value <= self.limit else "MISSED"
        return f"{self.what}: {self.value:.2f}, target at most {self.limit:.2f}: {verdict}"


Contender = Callable[[], Cost]


def round_robin(contenders: Mapping[str, Contender], rounds: int) -> dict[str, list[Cost]]:
    """Run every contender once per round; each round begins with another one.

    Args:
        contenders: By name; each does its work once and says what a unit of it took.
        rounds: Number of rounds.

    Returns:
        What each contender took in each round.
    """
    names = list(contenders)
    costs: dict[str, list[Cost]] = {name: [] for name in names}
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            # Each starts alike: what the peers' imports left behind is not walked over by a
            # collection that happens to fall into somebody's turn.
            gc.collect()
            gc.freeze()
            costs[name].append(contenders[name]())
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return costs


def summarize(costs: Mapping[str, list[Cost]], baseline: str) -> list[Summary]:
    """Reduce rounds to medians, and to ratios to the baseline of the same round."""
    base = costs[baseline]
    rows = []
    for name, taken in costs.items():
        ratios = [c.wall_s / b.wall_s for c, b in zip(taken, base, strict=True)]
        cpu_ratios = ratios_cpu(taken, base)
        rows.append(
            Summary(
                name=name,
                wall_s=statistics.median(c.wall_s for c in taken),
                cpu_s=statistics.median(c.cpu_s for c in taken),
                ratio=statistics.median(ratios),
                ratio_cpu=statistics.median(cpu_ratios),
                ratio_cpu_low=min(cpu_ratios),
                ratio_cpu_high=max(cpu_ratios),
            )
        )
    return rows


def ratios_cpu(costs: list[Cost], others: list[Cost]) -> list[float]:
    """Divide processor times round by round."""
    return [c.cpu_s / o.cpu_s for c, o in zip(costs, others, strict=True)]


@frozen
class Report:
    """What a benchmark found; printed, and written where the options say."""

    title: str
    unit: str
    """What a time is printed in, such as ``"us/step"``."""
    per_second: float
    """Units in a second."""
    baseline: str
    """Name of the row that every ratio is to."""
    facts: dict[str, Any]
    """Machine, versions and settings."""
    tables: dict[str, list[Summary]] = field(factory=dict, init=False)
    targets: list[Target] = field(factory=list, init=False)

    def add(self, title: str, costs: Mapping[str, list[Cost]]) -> dict[str, Summary]:
        """Add and print one table; return its rows by name."""
        self.tables[title] = summarize(costs, self.baseline)
        print(f"\n{self._table(title)}", flush=True)
        return {row.name: row for row in self.tables[title]}

    def publish(self, options: argparse.Namespace) -> None:
        """Print the targets and the facts, and write the files that the options name."""
        print("", *self.targets, sep="\n")
        print(json.dumps(self.facts))
        tables = {title: [asdict(row) for row in rows] for title, rows in self.tables.items()}
        targets = [asdict(target) for target in self.targets]
        content = {"facts": self.facts, "tables": tables, "targets": targets}
        _write(options.json, json.dumps(content, indent=2) + "\n")
        if options.markdown:
            _write(options.markdown, self._markdown())

    def _markdown(self) -> str:
        versions = ", ".join(f"{n} {v}" for n, v in self.facts["versions"].items())
        plain = {name: value for name, value in self.facts.items() if name != "versions"}
        facts = "\n".join(f"- {name}: {value}" for name, value in plain.items())
        command = " ".join(["python", *sys.argv])
        parts = [
            f"# {self.title}",
            f"```\n{command}\n```",
            f"{facts}\n- versions: {versions}",
            f"Ratios are to *{self.baseline}* of the same round, medians over rounds.",
            *(self._table(title) for title in self.tables),
            "## Targets",
            "\n".join(f"- {target}" for target in self.targets),
        ]
        return "\n\n".join(parts) + "\n"

    def _table(self, title: str) -> str:
        unit = self.unit
        lines = [
            f"## {title}\n",
            f"| contender | {unit} | CPU {unit} | ratio | CPU ratio | CPU min..max |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        for row in self.tables[title]:
            wall, cpu = row.wall_s * self.per_second, row.cpu_s * self.per_second
            lines.append(
                f"| {row.name} | {wall:.4g} | {cpu:.4g} | {row.ratio:.2f} "
                f"| {row.ratio_cpu:.2f} | {row.ratio_cpu_low:.2f}..{row.ratio_cpu_high:.2f} |"
            )
        return "\n".join(lines)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def parser(text: str | None, *, rounds: int, output: str) -> argparse.ArgumentParser:
    """Return the options that every benchmark has."""
    made = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--rounds", type=int, default=rounds, help="rounds (default %(default)s)")
    made.add_argument(
        "--json", type=Path, default=Path(output), help="where the numbers go (default %(default)s)"
    )
    made.add_argument("--markdown", type=Path, help="where a page of results goes, if anywhere")
    return made


def machine(*distributions: str) -> dict[str, Any]:
    """Say where and with what the numbers were taken; uninstalled distributions are left out."""
    versions: dict[str, str] = {}
    for name in distributions:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "load_average_1min": round(os.getloadavg()[0], 2),
        "versions": versions,
    }
