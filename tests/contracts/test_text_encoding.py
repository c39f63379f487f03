"""Text is read and written as UTF-8 on every system: every call that opens a file says so."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = [ROOT / "simscaleai_core", *ROOT.glob("plugins/*/simscaleai*"), ROOT / "docs"]
_OPENS = re.compile(r"\b(?:read_text|write_text|open|fdopen|TextIOWrapper|NamedTemporaryFile)\(")
_PLACES = {"read_text": 0, "write_text": 1}
"""Where the encoding stands if it is not named."""
_ELSEWHERE = {"av", "h5py", "os", "tarfile", "zipfile", "webbrowser", "Image", "Picture", "Host"}
"""What has an `open` of its own, which is not of text."""


def unnamed(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of each call that leaves the encoding of text to the system."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        owner = getattr(getattr(node.func, "value", None), "id", "")
        if any(keyword.arg in {"encoding", None} for keyword in node.keywords):
            continue
        if (name in _PLACES and len(node.args) <= _PLACES[name]) or (
            name in {"open", "fdopen", "NamedTemporaryFile"}
            and (owner not in _ELSEWHERE or name == "fdopen")
            and _is_text(node, name)
        ):
            yield node.lineno, name


def _is_text(node: ast.Call, name: str) -> bool:
    """Whether a file is opened as text, as far as the call says it."""
    is_method = name == "open" and isinstance(node.func, ast.Attribute)
    if is_method and not node.args and not node.keywords:
        return False  # mostly another's `open`; of a path it is the linter's PLW1514
    place = 0 if is_method else 1
    modes = [k.value for k in node.keywords if k.arg == "mode"] or node.args[place : place + 1]
    mode = getattr(modes[0], "value", "b") if modes else "r"
    text = mode if isinstance(mode, str) else "b"
    return "b" not in text and (bool(modes) or name != "NamedTemporaryFile")


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: p.name)
def test_the_encoding_of_text_is_named(package: Path) -> None:
    found = []
    for path in package.rglob("*.py"):
        source = path.read_text("utf-8")
        if _OPENS.search(source):
            found += [f"{path.relative_to(ROOT)}:{line} {name}" for line, name in unnamed(source)]
    assert not found, found


def test_what_is_left_to_the_system_is_found() -> None:
    bad = 'p.read_text()\np.write_text(x)\nopen(p)\np.open("w")\nos.fdopen(1, "w")\n'
    good = 'p.read_text("utf-8")\np.write_text(x, encoding="utf-8")\nopen(p, "rb")\nav.open(p)\n'
    assert [line for line, _ in unnamed(bad)] == [1, 2, 3, 4, 5]
    assert list(unnamed(good)) == []
