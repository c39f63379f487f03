"""The API reference has every public name, and the first-party plugins use no other of the core."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import api_pages
import pytest
from draw_architecture import imported
from pages import DOCS, ROOT

PUBLIC = {
    (module, name): value
    for page in api_pages.pages().values()
    for module, name, value in page.entries()
}
HOMES = {
    f"{value.__module__}.{name}"
    for (module, name), value in PUBLIC.items()
    if module == "simscaleai_core"
}
"""Where the names of the package itself are defined; plugins import them from there."""
NOT_PLUGINS = {"simscaleai", "simscaleai_devkit"}
"""The umbrella gives the core's names other paths; the devkit looks inside what it checks."""


def packages() -> Iterator[Path]:
    for folder in sorted((ROOT / "plugins").iterdir()):
        package = folder / folder.name.replace("-", "_")
        if package.is_dir() and package.name not in NOT_PLUGINS:
            yield package


def private_imports(file: Path) -> set[str]:
    """Return what a file imports from the core that no page names."""
    names = {".".join(key) for key in PUBLIC} | HOMES
    found = {m for m in imported(file) if m.partition(".")[0] == "simscaleai_core"}
    inner = {m for m in found if not any(other.startswith(f"{m}.") for other in found)}
    return inner - names


@pytest.mark.parametrize("package", list(packages()), ids=lambda package: package.name)
def test_plugins_import_public_names_only(package: Path) -> None:
    found = {
        str(file.relative_to(ROOT)): sorted(names)
        for file in sorted(package.rglob("*.py"))
        if (names := private_imports(file))
    }
    assert found == {}


def test_a_private_import_is_found(tmp_path: Path) -> None:
    """The negative control."""
    file = tmp_path / "mine.py"
    file.write_text(
        "from simscaleai_core.plugin import hookimpl\n"
        "from simscaleai_core.loop import Loop\n"
        "def lazily():\n    import simscaleai_core.data.feed\n"
    )
    assert private_imports(file) == {"simscaleai_core.loop.Loop", "simscaleai_core.data.feed"}


@pytest.mark.parametrize(
    "module",
    [
        "simscaleai_core",
        "simscaleai_core.plugin",
        "simscaleai_devkit",
        "simscaleai_plugin_gym",
    ],
)
def test_every_exported_name_is_on_a_page(module: str) -> None:
    exported = importlib.import_module(module).__all__
    pages = {name for _, name in PUBLIC}
    assert [name for name in exported if name not in pages] == []


def test_every_public_name_is_documented() -> None:
    undocumented = [
        f"{module}.{name}"
        for (module, name), value in PUBLIC.items()
        if len(api_pages.summary(module, name, value)) < 10
    ]
    assert undocumented == []


def test_the_overview_lists_every_page_with_its_modules() -> None:
    rows = [
        line.split("|")[1:3]
        for line in (DOCS / "reference" / "api" / "index.md").read_text("utf-8").splitlines()
        if line.startswith("| [")
    ]
    listed = {page.strip(): cell for page, cell in rows}
    for name, page in api_pages.pages().items():
        cell = listed.pop(f"[{page.title}]({name}.md)")
        missing = [
            m for m in page.names if f"`{m}`" not in cell and f"`.{m.split('.')[-1]}`" not in cell
        ]
        assert missing == [], name
    assert listed == {}
