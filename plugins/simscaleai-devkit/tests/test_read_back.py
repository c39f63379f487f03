"""Loggers are read back also where no suite says how: by a search in the files that they wrote."""

from __future__ import annotations

import gzip
import json
import struct
from typing import Any

import pytest
from simscaleai_devkit import LoggerSuite
from simscaleai_devkit.loggers import driver
from simscaleai_devkit.suite import name_of, outcomes

from . import broken_loggers
from .broken_loggers import Sound

READING = (
    *("values_read_back", "resume_drops_later_rows", "rows_survive_a_failure", "two_at_once"),
)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loggers here write in this process: nothing comes later."""
    monkeypatch.setattr(driver, "_LATE_S", 0.0)


class Table(Sound):
    """A table in text, in a format of its own."""

    def write(self):
        super().write()
        lines = [f"{step:>8} | {name:<20} | {value:+.5e}" for step, name, value in self.rows]
        self.path.with_suffix(".txt").write_text("\n".join(lines))
        self.path.write_text(json.dumps([]) if not self.rows else self.path.read_text())


class Records(Sound):
    """Floats in bytes; rows that were dropped stay, and a second file says that they are void."""

    def start(self, facts, step):
        super().start(facts, step)
        self.path.with_name("void").write_text(f"after {step}")

    def write(self):
        super().write()
        with self.path.with_suffix(".bin").open("ab") as file:
            file.writelines(struct.pack("<q20sf", s, n.encode(), v) for s, n, v in self.rows)


class Packed(Sound):
    """What a search cannot read."""

    def write(self):
        super().write()
        with gzip.open(self.path.with_suffix(".gz"), "wt") as file:
            file.write(self.path.read_text())
        self.path.write_text("[]") if self.closed else None

    closed = False

    def close(self, status):
        self.closed = True
        super().close(status)


def _outcomes(component: Any) -> dict[str, Any]:
    checks = tuple(c for c in LoggerSuite.checks if name_of(c) in READING)
    suite = type("Checked", (LoggerSuite,), {"component": component, "checks": checks})
    return {o.check: o for o in outcomes(suite)}


@pytest.mark.parametrize("component", [Sound, Table, Records])
def test_what_was_logged_is_found(component: Any) -> None:
    found = _outcomes(component)
    assert {n: (o.status, o.message) for n, o in found.items()} == dict.fromkeys(
        READING, ("passed", "")
    )


def test_what_cannot_be_read_is_said() -> None:
    for outcome in _outcomes(Packed).values():
        assert outcome.status == "skipped"
        assert "no files hold them all as text or as floats" in outcome.message


@pytest.mark.parametrize(
    ("component", "check", "word"),
    [found for found in broken_loggers.TABLE if found[1] in READING],
    ids=[found[0].__name__ for found in broken_loggers.TABLE if found[1] in READING],
)
def test_broken_loggers_are_found(component: Any, check: str, word: str) -> None:
    failed = {n: o.message for n, o in _outcomes(component).items() if o.status == "failed"}
    assert list(failed) == [check], failed
    assert word in failed[check]


def test_the_command_reads_back(simscale_cli: Any) -> None:
    found = {
        c["check"]: c["status"]
        for c in simscale_cli("plugins", "check", "builtin/jsonl", "--json").json["checks"]
    }
    assert [found[name] for name in READING] == ["passed"] * len(READING)
