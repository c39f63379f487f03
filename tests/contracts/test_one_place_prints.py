"""One module writes to standard output and standard error, so that everything is escaped there."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = [ROOT / "simscaleai_core", *sorted(ROOT.glob("plugins/*/simscaleai*/"))]
STREAMS = {"stdout", "stderr", "__stdout__", "__stderr__"}
PRINTERS = {"print", "pprint", "print_exc", "print_exception", "print_stack", "print_tb", "Console"}
HARMLESS = {"isatty", "fileno"}

MAY_USE_STREAMS = {
    "simscaleai_core/cli/terminal.py": "the one place",
    "simscaleai_core/__main__.py": "gives the process streams where it was started without",
    "simscaleai_core/host/facade.py": "sends what plugins print as they load to standard error",
    "simscaleai_core/host/lookup.py": "sends what targets print as they load to standard error",
    "simscaleai_core/cli/trace.py": "hands standard error on to the command that it runs",
    "simscaleai_devkit/commands/check.py": "keeps standard error while components are silenced",
    "simscaleai_devkit/datasets/source_subject.py": "answers its parent process with a digest",
    "simscaleai_devkit/samplers.py": "answers its parent process in JSON",
    "simscaleai_devkit/support/process.py": "collects what a component prints",
    "simscaleai_devkit/plugins/probe.py": "answers its parent process in JSON",
    "simscaleai_plugin_wandb/connection.py": "collects what wandb prints",
}
MAY_PRINT = {
    "simscaleai_core/cli/bars.py": "draws rows with rich, and hands them to the one place",
    "simscaleai_core/cli/output.py": "draws tables with rich, and hands them to the one place",
    "simscaleai_core/cli/tree.py": "help pages, through `Screen`",
}


def _parents(tree: ast.Module) -> dict[ast.AST, ast.AST]:
    return {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}


def writers(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and name of what could write around the one place."""
    tree = ast.parse(source)
    parents = _parents(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in STREAMS:
            is_sys = isinstance(node.value, ast.Name) and node.value.id == "sys"
            used = parents.get(node)
            if is_sys and not (isinstance(used, ast.Attribute) and used.attr in HARMLESS):
                yield node.lineno, f"sys.{node.attr}"
        elif isinstance(node, ast.ImportFrom) and node.module == "sys":
            yield from ((node.lineno, a.name) for a in node.names if a.name in STREAMS)
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in PRINTERS or (name == "StreamHandler" and not node.args):
                yield node.lineno, name


@functools.cache
def _found() -> list[tuple[str, int, str]]:
    """Return module, line and name of every writer of every package."""
    found = []
    for path in (p for package in PACKAGES for p in sorted(package.rglob("*.py"))):
        parts = path.relative_to(ROOT).parts
        module = "/".join(parts[2:] if parts[0] == "plugins" else parts)
        found += [(module, *writer) for writer in writers(path.read_text(encoding="utf-8"))]
    return found


def test_no_module_writes_around_the_one_place() -> None:
    around = [
        f"{module}:{line} {what}"
        for module, line, what in _found()
        if module not in (MAY_PRINT if what in PRINTERS else MAY_USE_STREAMS)
    ]
    assert not around, "use simscaleai_core.cli.output or run.terminal:\n" + "\n".join(around)


def test_what_is_allowed_is_there_and_needs_it() -> None:
    assert {*MAY_USE_STREAMS, *MAY_PRINT} <= {module for module, _, _ in _found()}


@pytest.mark.parametrize(
    "source",
    ["print(1)", "import sys\nsys.stderr.write('')", "import sys\nx = sys.__stdout__",
     "from sys import stdout", "import logging\nlogging.StreamHandler()",
     "import traceback\ntraceback.print_exc()", "import rich.console\nrich.console.Console()"],
)  # fmt: skip
def test_it_is_noticed(source: str) -> None:
    assert list(writers(source))


def test_asking_whether_there_is_a_terminal_is_no_writing() -> None:
    assert not list(writers("import sys\nsys.stdout.isatty()"))
