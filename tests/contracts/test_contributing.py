"""CONTRIBUTING.md names files, links and targets that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
PATH = re.compile(r"`([\w.-]+/[\w./-]*)`")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
TARGET = re.compile(r"\bmake ((?:[a-z-]+ ?)+)")
NOT_HERE = {"plugins/NAME/", "docs/KIND/", "dist/", "benchmarks/results/YYYY-MM-DD-NAME.md"}
"""Paths that stand for any, or are made by a command."""


def paths(text: str) -> set[str]:
    """Return the paths that a page names, but for those of `NOT_HERE`."""
    named = {*PATH.findall(text), *LINK.findall(text)} - NOT_HERE
    return {name for name in named if not name.startswith(".venv/")}


def targets(text: str) -> set[str]:
    """Return the targets of every `make` command in a page's code."""
    code = re.findall(r"`+([^`]+)`+", text)
    return {t for block in code for found in TARGET.findall(block) for t in found.split()}


def test_every_path_exists() -> None:
    assert {"simscaleai_core/loop.py", "scripts/", "benchmarks/README.md"} <= paths(TEXT)
    assert {name for name in paths(TEXT) if not (ROOT / name).exists()} == set()


def test_every_make_target_exists() -> None:
    declared = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"setup", "test", "release-check"} <= targets(TEXT)
    assert targets(TEXT) <= declared


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see `simscaleai_core/gone.py`", {"simscaleai_core/gone.py"}),
        ("see [it](docs/gone.md#part)", {"docs/gone.md"}),
        ("see [it](#part) and [there](https://example.org/gone.md)", set()),
        ("see [it](docs/gone.md)", {"docs/gone.md"}),
        ("in `plugins/NAME/`", set()),
    ],
)
def test_what_counts_as_a_path(text: str, found: set[str]) -> None:
    assert paths(text) == found
