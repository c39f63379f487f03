"""The architecture page says what the code is."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import draw_architecture
import pytest
from attrs import evolve
from draw_architecture import Node
from pages import DOCS, ROOT

PAGE = DOCS / "explanation" / "architecture.md"
STOP = re.compile(r"`(simscaleai\w*(?:\.\w+)*):([\w.]+)`")
FILE = re.compile(r"`((?:simscaleai_core|plugins|docs|tests|benchmarks)/[\w./-]+)`")


def is_there(module: str, attribute: str) -> bool:
    """Return whether a walk's stop, ``module:Class.function``, exists."""
    try:
        found = importlib.import_module(module)
        for name in attribute.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError):
        return False
    return True


def test_the_picture_is_current() -> None:
    assert draw_architecture.main(["--check"]) == 0, "run: python docs/scripts/draw_architecture.py"


def test_an_old_picture_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The negative control."""
    layers = draw_architecture.core_layers()
    monkeypatch.setattr(draw_architecture, "PICTURE", tmp_path / "drawn.svg")
    assert draw_architecture.main([]) == 0
    grown = [[evolve(node, lines=(*node.lines, "new_module")) for node in row] for row in layers]
    monkeypatch.setattr(draw_architecture, "core_layers", lambda: grown)
    assert draw_architecture.main(["--check"]) == 1
    assert "is not current" in capsys.readouterr().err


def test_every_import_of_the_core_leads_down_or_aside() -> None:
    level = {n.name: i for i, row in enumerate(draw_architecture.core_layers()) for n in row}
    up = [
        (a, b)
        for a, to in draw_architecture.core_imports().items()
        for b in to
        if level[b] < level[a]
    ]
    assert level and up == []


def test_edges_are_reduced_and_ranked() -> None:
    edges = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert draw_architecture.reduced(edges) == {"a": {"b"}, "b": {"c"}, "c": set()}
    rows = draw_architecture.ranked([Node(n, ()) for n in "cab"], edges)
    assert [[node.name for node in row] for row in rows] == [["a"], ["b"], ["c"]]


def test_every_stop_of_the_walks_exists() -> None:
    stops = STOP.findall(PAGE.read_text("utf-8"))
    assert len(stops) > 30
    assert [f"{m}:{a}" for m, a in stops if not is_there(m, a)] == []


def test_a_stop_that_is_gone_is_found() -> None:
    """The negative control."""
    assert STOP.findall("`simscaleai_core.loop:Loop.nowhere`") == [
        ("simscaleai_core.loop", "Loop.nowhere")
    ]
    assert not is_there("simscaleai_core.loop", "Loop.nowhere")
    assert not is_there("simscaleai_core.nowhere", "Loop")


def test_every_file_on_the_page_exists() -> None:
    files = FILE.findall(PAGE.read_text("utf-8"))
    assert len(files) > 10
    assert [name for name in files if not (ROOT / name).exists()] == []
