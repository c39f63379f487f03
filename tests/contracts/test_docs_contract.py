"""Documentation and size are contracts: every public thing is explained, nothing grows too big.

A file has no limit of its own: it is split because it holds two ideas, not because it is long.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = [
    ROOT / "simscaleai_core",
    *sorted(p.parent for p in (ROOT / "plugins").glob("*/simscaleai*/__init__.py")),
]
FILES = [f for package in PACKAGES for f in sorted(package.rglob("*.py"))]
MODULES = [
    info.name
    for package in PACKAGES
    for info in pkgutil.walk_packages([str(package)], f"{package.name}.")
    if info.name != "simscaleai.tools.cli"  # runs the command line
]
MAX_BODY_LINES = 40
MAX_CORE_LINES = 10_250  # with docstrings, without cli/: who adds to the core takes away from it
MAX_CORE_MODULES = 8
MAX_CORE_FOLDERS = 6
SHAPE = re.compile(r"`\[[^`]*\]`")

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def _public(tree: ast.Module | ast.ClassDef) -> Iterator[Definition]:
    """Yield public definitions at module level and in public classes."""
    for node in tree.body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from _public(node)


def _place(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


def _is_tensor(annotation: ast.expr | None) -> bool:
    text = ast.unparse(annotation) if annotation is not None else ""
    return text.removesuffix(" | None") in {"Tensor", "torch.Tensor"}


def _undocumented(path: Path, tree: ast.Module) -> Iterator[str]:
    if path.name != "__main__.py" and not ast.get_docstring(tree):
        yield f"{_place(path, tree)} the module has no docstring"
    for node in _public(tree):
        if not ast.get_docstring(node):
            yield f"{_place(path, node)} {node.name} has no docstring"


def _shapeless(path: Path, tree: ast.Module) -> Iterator[str]:
    for node in _public(tree):
        if isinstance(node, ast.ClassDef):
            continue
        given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        tensors = [a.arg for a in given if _is_tensor(a.annotation)]
        if tensors and not SHAPE.search(ast.get_docstring(node) or ""):
            yield f"{_place(path, node)} {node.name}: no shape for {', '.join(tensors)}"


def _too_long(path: Path, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        if body:
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1
            if lines > MAX_BODY_LINES:
                yield f"{_place(path, node)} {node.name} has a body of {lines} lines"


def _offenders(check: object) -> list[str]:
    return [fault for f in FILES for fault in check(f, ast.parse(f.read_text()))]  # type: ignore[operator]


def test_every_public_definition_has_a_docstring() -> None:
    assert not _offenders(_undocumented)


def test_tensor_arguments_carry_their_shape() -> None:
    assert not _offenders(_shapeless)


def test_no_function_is_too_long() -> None:
    assert not _offenders(_too_long)


def test_the_core_stays_small() -> None:
    core = [f for f in FILES if f.is_relative_to(ROOT / "simscaleai_core") and "cli" not in f.parts]
    assert sum(len(f.read_text().splitlines()) for f in core) <= MAX_CORE_LINES


def test_the_core_has_few_rooms() -> None:
    root = ROOT / "simscaleai_core"
    modules = {f.stem for f in root.glob("*.py")} - {"__init__", "__main__"}
    folders = {f.parent.name for f in root.glob("*/*.py")}
    assert len(modules) <= MAX_CORE_MODULES
    assert len(folders) <= MAX_CORE_FOLDERS


def test_product_code_is_ascii() -> None:
    assert not [str(f.relative_to(ROOT)) for f in FILES if not f.read_text().isascii()]


def test_every_hook_says_when_it_is_called() -> None:
    tree = ast.parse((ROOT / "simscaleai_core/hookspecs.py").read_text())
    hooks = [n for n in tree.body if isinstance(n, ast.FunctionDef)]
    assert len(hooks) > 15
    silent = [h.name for h in hooks if not re.search(r"\bCalled:? ", ast.get_docstring(h) or "")]
    assert not silent
    undocumented = [
        f"{h.name}({a.arg})"
        for h in hooks
        for a in h.args.args
        if a.arg != "run" and f"{a.arg}:" not in (ast.get_docstring(h) or "").partition("Args:")[2]
    ]
    assert not undocumented


BAD = '''
def silent(x: Tensor):
    pass


def shapeless(x: torch.Tensor | None):
    """Say nothing of the shape."""


def shaped(x: Tensor):
    """Take `x` `[B, D]`."""


class Public:
    """Documented."""

    def method(self):
        return 1


def long():
    """Long."""
''' + "\n".join(f"    a{i} = {i}" for i in range(MAX_BODY_LINES + 1))


def test_the_checks_find_faults() -> None:
    """Negative control: each check names what is wrong in a bad file, and only that."""
    tree, path = ast.parse(BAD), ROOT / "bad.py"
    assert len(list(_undocumented(path, tree))) == 3  # the module, silent, Public.method
    assert [f.split()[1] for f in _shapeless(path, tree)] == ["silent:", "shapeless:"]
    assert [f.split()[1] for f in _too_long(path, tree)] == ["long"]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # an example may write checkpoints
    result = doctest.testmod(importlib.import_module(name), report=True)
    assert result.failed == 0, capsys.readouterr().out


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder()
    counts = {
        name: sum(len(t.examples) for t in finder.find(importlib.import_module(name)))
        for name in MODULES
    }
    assert sum(counts.values()) >= 20
