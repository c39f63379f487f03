"""The results as a Markdown page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def page_of(report: Mapping[str, Any]) -> str:
    """Return the page of a report."""
    checks = report["checks"]
    parts = ["# Check on a GPU", _about(report), _summary(checks)]
    parts += [_details(check) for check in checks if check.get("rows") or check.get("log")]
    return "\n\n".join(parts) + "\n"


def _about(report: Mapping[str, Any]) -> str:
    lines = [
        f"- when: {report['when']}",
        f"- command: `{report['command']}`",
        f"- sizes: {report['sizes']}",
        f"- packages: {report['packages']}",
        f"- time: {report['seconds']:.0f} s of at most {report['limit_s']:.0f} s",
    ]
    facts = next((c.get("facts", {}) for c in report["checks"] if c["name"] == "machine"), {})
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    note = ""
    if report["device"] != "cuda":
        note = (
            "\n\n**Not run on a GPU.** What needs CUDA is skipped, and the rest runs on the CPU "
            "with reduced sizes: this page shows that the script works, and nothing about speed."
        )
    return "\n".join(lines) + note


def _summary(checks: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        {
            "check": c["name"],
            "what": c["what"],
            "result": c["status"],
            "s": f"{c['seconds']:.0f}",
            "found": c["message"] if c["name"] != "machine" else "see above",
        }
        for c in checks
    ]
    return table(rows)


def _details(check: Mapping[str, Any]) -> str:
    parts = [f"## {check['name']}", f"{check['what'][0].upper()}{check['what'][1:]}."]
    if check.get("rows"):
        facts = ", ".join(f"{name} {value}" for name, value in check["facts"].items())
        parts += [facts[0].upper() + facts[1:] + ".", table(check["rows"])]
    if check.get("log"):
        parts.append("\n".join(["```", *check["log"], "```"]))
    return "\n\n".join(parts)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows that have the same columns as a Markdown table."""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([str(row[n]) for n in names] for row in rows)]
    return "\n".join(f"| {' | '.join(c.replace('|', '/') for c in line)} |" for line in lines)
