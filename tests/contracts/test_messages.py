"""What messages have in common: their sentences end, and the flags that they advise are there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from simscaleai_core import errors
from simscaleai_core.cli.app import run

ROOT = Path(__file__).parents[2]
PACKAGES = [ROOT / "simscaleai_core", *sorted(ROOT.glob("plugins/*/simscaleai*/"))]
ERRORS = {n for n, c in vars(errors).items() if isinstance(c, type) and issubclass(c, Exception)}
TOLD = {*ERRORS, "warning", "error", "info"}

# what is filled in, and then the beginning of a sentence: the first one has not ended
RUN_ON = re.compile(r"(?:\{\}|%s) [A-Z][a-z]+ [a-z]")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z](?![\w-]|\.\w)")
WHOLE_MESSAGES = {"{} The newest whole one is", "%s Training goes on"}
"""What is filled in is a message of ours, which ends in a full stop."""


def _text(node: ast.expr) -> str:
    """Return a message with ``{}`` for what is filled in."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(v) if isinstance(v, ast.Constant) else "{}" for v in node.values)
    return _text(node.left) + _text(node.right) if isinstance(node, ast.BinOp) else ""


def messages(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of every message that is raised or logged."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in TOLD:
                yield from ((node.lineno, text) for a in node.args[:1] if (text := _text(a)))


def _all() -> list[tuple[str, str]]:
    files = (path for package in PACKAGES for path in sorted(package.rglob("*.py")))
    return [
        (f"{path.relative_to(ROOT)}:{line}", text)
        for path in files
        for line, text in messages(path.read_text(encoding="utf-8"))
    ]


@pytest.fixture(scope="module")
def told() -> list[tuple[str, str]]:
    return _all()


def test_no_sentence_runs_on(told: list[tuple[str, str]]) -> None:
    assert len(told) > 150
    found = [
        f"{place} {text}"
        for place, text in told
        if RUN_ON.search(text) and not any(text.startswith(part) for part in WHOLE_MESSAGES)
    ]
    assert not found, "\n".join(found)


def test_no_message_begins_with_a_capital_letter(told: list[tuple[str, str]]) -> None:
    assert not [f"{p} {text}" for p, text in told if re.match(r"[A-Z][a-z]+ ", text)]


def test_a_run_on_sentence_is_noticed() -> None:
    (message,) = messages("raise DataError(f'it failed: {reason} Lower ' 'num_workers.')")
    assert RUN_ON.search(message[1])
    assert not RUN_ON.search("{} failed: {}. Lower num_workers.")
    assert not RUN_ON.search("expected at most {} KiB")


def test_the_flags_that_are_advised_exist(
    told: list[tuple[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    commands = ["", "train", "record", "eval", "plugins new", "plugins check"]
    commands += ["data check", "data convert", "batch", "reproduce"]
    for command in commands:
        assert run([*command.split(), "--help"]) == 0
    pages = capsys.readouterr().out
    named = {(flag, place) for place, text in told for flag in FLAG.findall(text)}
    assert len(named) > 15
    known = set(re.findall(r"--[a-z][a-z-]*", pages))
    assert not sorted((flag, place) for flag, place in named if flag not in known)
