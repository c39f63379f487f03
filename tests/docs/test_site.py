"""`make docs` builds a site of all pages without a warning."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from pages import DOCS, ROOT


def conf() -> Any:
    spec = importlib.util.spec_from_file_location("docs_conf", DOCS / "conf.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-E", "-q"]
    return subprocess.run(
        [*command, "-c", str(DOCS), "-d", str(target / "doctrees"), str(source), str(target)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def text_of(page: Path) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", "", page.read_text("utf-8"))).split())


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = build(DOCS, tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    pages = [p.relative_to(DOCS) for p in DOCS.rglob("*.md") if "_build" not in p.parts]
    assert [p for p in pages if not (tmp_path / p).with_suffix(".html").is_file()] == []
    contracts = text_of(tmp_path / "reference" / "api" / "contracts.html")
    assert "Samples (windows) in the data." in contracts  # a field of an attrs class
    assert "Return the element-wise sum over ranks" in contracts  # a method of a protocol
    run = text_of(tmp_path / "reference" / "api" / "run.html")
    assert "The policy itself, never wrapped, on its device." in run
    assert "Name in the checkpoint, unique in the run." in run  # an argument


@pytest.mark.slow
def test_a_warning_fails_the_build(tmp_path: Path) -> None:
    """The negative control."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "index.md").write_text(
        "# A page\n\n```{eval-rst}\n.. autoclass:: simscaleai_core.contracts.Nowhere\n```\n"
    )
    done = build(source, tmp_path / "site")
    assert done.returncode != 0
    assert "Nowhere" in done.stderr


def test_the_navigation_follows_the_index() -> None:
    text = "# T\n\n**One**: a.\n\n- [A](a/b.md), [A](a/b.md#x), [C](c-d.md)\n- [R](../README.md)\n\n**Two**\n"
    assert conf().contents(text) == ("```{toctree}\n:hidden:\n:caption: One\n\na/b\nc-d\n```")
