"""The reference says what the code says, and no link of the documentation leads nowhere."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import api_pages
import attrs
import pytest
from pages import DOCS, PAGES, ROOT

from simscaleai_core import Trainer, load_checkpoint
from simscaleai_core.checkpoint.manifest import CheckpointInfo
from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import SimScaleError
from simscaleai_core.host.registry import ModelRegistry
from simscaleai_core.host.validation import hook_specs
from simscaleai_core.run.drift import REFUSED, REPORTED

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def generator() -> Any:
    """Import docs/generate.py, which is no package."""
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def reference(name: str) -> str:
    return (DOCS / "reference" / name).read_text("utf-8")


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    pages: dict[str, str] = generator().pages()
    return pages


@pytest.mark.parametrize(
    "name", ["config.md", "hooks.md", "cli.md", *(f"api/{name}.md" for name in api_pages.pages())]
)
def test_generated_page_is_current(generated: dict[str, str], name: str) -> None:
    assert reference(name) == generated[name], "run: python docs/generate.py"


def test_every_command_is_documented_with_its_options() -> None:
    """A command that the page does not import is shown without any."""
    sections = dict(
        re.findall(r"^#+ simscale ([\w ]+)\n(.*?)(?=^#|\Z)", reference("cli.md"), re.M | re.S)
    )
    groups = {name.rpartition(" ")[0] for name in sections} - {""}
    shows = ("**Parameters**", "**Arguments**", "**Configuration**")
    assert len(sections) > 15
    bare = [n for n, text in sections.items() if not any(part in text for part in shows)]
    assert {*bare} <= groups


def test_every_hook_is_documented() -> None:
    headings = HEADING.findall(reference("hooks.md"))
    assert [name for name in hook_specs() if name not in headings] == []


def test_every_field_is_documented() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", reference("config.md"), re.MULTILINE))
    assert list(rows) == [field.name for field in attrs.fields(TrainConfig)]
    assert [name for name, meaning in rows.items() if len(meaning.strip()) < 10] == []


def test_checkpoint_keys_are_documented(tmp_path: Path) -> None:
    from torch.utils.data import DataLoader

    from simscaleai_core.builtin.dummy import DummyTrajectoryDataset

    policy = ModelRegistry.create("bc", state_dim=20, action_dim=4, hidden_dim=8)
    config = TrainConfig(max_steps=1, checkpoint_dir=str(tmp_path), loggers=(), device="cpu")
    Trainer(policy, DataLoader(DummyTrajectoryDataset(64), batch_size=32), config).train()
    page = reference("checkpoint-format.md")
    in_tables = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    tree = load_checkpoint(tmp_path / "final.pt")
    manifest = [field.name for field in attrs.fields(CheckpointInfo)]
    assert in_tables == [*tree, *manifest]
    assert [name for name in (*REFUSED, *REPORTED) if f"`{name}`" not in page] == []


def test_exit_statuses_are_documented() -> None:
    def family(kind: type[SimScaleError]) -> Iterator[type[SimScaleError]]:
        yield kind
        for child in kind.__subclasses__():
            yield from family(child)

    rows = re.findall(r"^\| (\d+) \| (.*) \|$", reference("exit-status.md"), re.MULTILINE)
    documented = {name: int(n) for n, text in rows for name in re.findall(r"`(\w+Error)`", text)}
    ours = [k for k in family(SimScaleError) if k.__module__ == "simscaleai_core.errors"]
    assert documented == {k.__name__: k.exit_status for k in ours}


def links(page: Path, text: str) -> Iterator[str]:
    for target in LINK.findall(FENCE.sub("", text)):
        if not re.match(r"[a-z]+:", target):
            yield target


def is_dead(page: Path, target: str) -> bool:
    name, _, anchor = target.partition("#")
    path = (page.parent / name).resolve() if name else page
    if not path.exists() or not path.is_relative_to(ROOT):
        return True
    return bool(anchor) and anchor not in slugs(path.read_text("utf-8"))


def slugs(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in HEADING.findall(FENCE.sub("", text))
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    assert [target for target in links(page, text) if is_dead(page, target)] == []


def test_dead_links_are_found() -> None:
    """The negative control."""
    page = DOCS / "index.md"
    text = "[a](nowhere.md) [b](index.md#nowhere) [c](../README.md) [d](https://example.org)\n"
    assert [t for t in links(page, text) if is_dead(page, t)] == ["nowhere.md", "index.md#nowhere"]


def test_every_page_is_in_the_index() -> None:
    index = DOCS / "index.md"
    listed = {(DOCS / t.partition("#")[0]).resolve() for t in links(index, index.read_text())}
    assert [
        p
        for p in sorted(DOCS.rglob("*.md"))
        if "_build" not in p.parts and p != index and p.resolve() not in listed
    ] == []


def test_pages_are_short() -> None:
    generated = {DOCS / "reference" / name for name in ("config.md", "hooks.md", "cli.md")}
    generated.add(DOCS / "reference" / "api" / "devkit.md")
    pages = {p: len(p.read_text("utf-8").splitlines()) for p in PAGES if p not in generated}
    assert {str(p.relative_to(ROOT)): n for p, n in pages.items() if n > 160} == {}
