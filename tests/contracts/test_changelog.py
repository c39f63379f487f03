"""The changelog's newest section is about this version, and its moved names are where it says."""

from __future__ import annotations

import importlib
import re
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from attrs import frozen

ROOT = Path(__file__).parents[2]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text("utf-8")
RELEASE = re.compile(r"^## (\d+\.\d+\.\d+) - (\d{4}-\d{2}-\d{2})$", re.MULTILINE)
SECTION = re.compile(r"^### (.+)$", re.MULTILINE)
ROW = re.compile(r"^\| `([\w.]+)` \| `([\w.]+)` \| (.+) \|$", re.MULTILINE)
NAME = re.compile(r"`(\w+)`(?: \(now `(\w+)`\))?")
SECTIONS = {"Added", "Changed", "Deprecated", "Moved names", "Removed", "Fixed", "Security"}


@frozen
class Move:
    """One public name: module and name as they were, and as they are."""

    old: str
    old_name: str
    new: str
    new_name: str


def moves(text: str) -> Iterator[Move]:
    """Yield the names that a release's section says have moved."""
    for old, new, names in ROW.findall(text):
        for name, renamed in NAME.findall(names):
            yield Move(old, name, new, renamed or name)


def has(module: str, name: str) -> bool:
    """Whether a name can be imported from a module."""
    parents = module.split(".")
    if any(find_spec(".".join(parents[:n])) is None for n in range(1, len(parents) + 1)):
        return False
    return hasattr(importlib.import_module(module), name)


def newest() -> str:
    """Return the section of the newest release."""
    return RELEASE.split(CHANGELOG, maxsplit=2)[3]


def test_the_newest_section_is_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    releases = RELEASE.findall(CHANGELOG)
    assert releases[0][0] == version
    assert releases == sorted(releases, key=lambda r: [*map(int, r[0].split("."))], reverse=True)
    assert CHANGELOG.count("\n## ") == len(releases)


def test_sections_have_the_usual_names() -> None:
    assert set(SECTION.findall(CHANGELOG)) <= SECTIONS


@pytest.mark.parametrize("move", list(moves(newest())), ids=lambda m: f"{m.old}.{m.old_name}")
def test_a_moved_name_is_where_the_changelog_says(move: Move) -> None:
    assert has(move.new, move.new_name)
    assert not has(move.old, move.old_name)


def test_a_name_that_is_not_there_is_noticed() -> None:
    """The negative control."""
    row = (
        "| `acme.nowhere` | `simscaleai_core.plugin` | `nothing`, `implement` (now `hookimpl`) |\n"
    )
    nothing, implement = moves(row)
    assert not has(nothing.new, nothing.new_name)
    assert not has(nothing.old, nothing.old_name)
    assert has(implement.new, implement.new_name)
