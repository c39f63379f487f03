"""The components that the pages show are sound: typed, and passed by the conformance kit."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import PAGES, Block, blocks_of, install

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def files_of(page: Path) -> list[Block]:
    return [block for block in blocks_of(page) if block.directive == "file"]


def plugins_of(page: Path) -> list[str]:
    """Return the modules that declare plugins: files on their own, or of a package."""
    return [block.value for block in files_of(page) if "\nPLUGIN = " in block.text]


SHOWN = [(page, file) for page in PAGES for file in plugins_of(page)]
IDS = [f"{page.stem}-{Path(file).parts[0]}" for page, file in SHOWN]


def write(page: Path, folder: Path) -> None:
    for block in files_of(page):
        path = folder / block.value
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text.removeprefix("\n"), "utf-8")


def python(*arguments: str, cwd: Path, path: Sequence[str] = ()) -> Any:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("SIMSCALE_")}
    own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(path)}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(
        command, cwd=cwd, env={**environ, **own}, capture_output=True, text=True, check=False
    )


def type_faults(folders: Sequence[Path], cache: Path) -> str:
    """Return what mypy says of the Python files below each folder, its own project."""
    said = []
    for folder in folders:
        done = python("mypy", "--strict", "--cache-dir", str(cache), ".", cwd=folder)
        said += [] if done.returncode == 0 else [f"{folder.name}: {done.stdout}{done.stderr}"]
    return "\n".join(said)


def test_the_components_are_typed(tmp_path: Path) -> None:
    pages = sorted({page for page, _ in SHOWN})
    assert len(pages) > 10
    for page in pages:
        write(page, tmp_path / page.stem)
    assert type_faults([tmp_path / page.stem for page in pages], tmp_path / "cache") == ""


def test_an_untyped_component_is_found(tmp_path: Path) -> None:
    """The negative control."""
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "mine.py").write_text("def build(groups, config, options): ...\n")
    assert "[no-untyped-def]" in type_faults([tmp_path / "page"], tmp_path / "cache")


@pytest.mark.parametrize(("page", "file"), SHOWN, ids=IDS)
def test_the_components_pass_the_kit(page: Path, file: str, tmp_path: Path) -> None:
    """Where a page has a test of its own for a component, `test_scripts_run` runs that instead."""
    own = "\n".join(b.text for b in files_of(page) if Path(b.value).name.startswith("test_"))
    faults = kit_faults(page, file, tmp_path)
    assert [fault for fault in faults if f'"{fault.partition(" ")[0]}"' not in own] == []


def kit_faults(page: Path, file: str, folder: Path) -> list[str]:
    """Return the checks that fail for a plugin of a page, with the fault of each."""
    write(page, folder)
    rng = random.Random(0)
    rows = [" ".join(f"{rng.random():.3f}" for _ in range(4)) for _ in range(32)]
    (folder / "data.txt").write_text("\n".join(rows), "utf-8")
    data = "data.txt"
    if page.stem == "write-a-reader":
        data = write_npz(folder / "demos").name
    distribution = folder / Path(file).parts[0]
    if distribution.is_dir():
        path = install(distribution, folder / "site")
        named = [Path(path[0]).name.removeprefix("simscaleai-plugin-")]
    else:
        path, named = [], [Path(file).stem, "--plugin", f"./{file}"]
    command = ("simscaleai_core", "plugins", "check", *named, "--data", data, "--json")
    done = python(*command, cwd=folder, path=path)
    assert done.stdout, done.stderr
    checks = json.loads(done.stdout)["checks"]
    assert len(checks) > 15, "nothing but the plugin itself was checked"
    return [
        f"{c['component']} {c['check']}: {c['message']}" for c in checks if c["status"] == "failed"
    ]


def write_npz(folder: Path) -> Path:
    """Write a folder in the layout that the page about readers makes up."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number, length in enumerate((9, 12, 7)):
        state, actions = draw.normal(size=(length, 7)), draw.normal(size=(length, 2))
        np.savez(folder / f"episode_{number}.npz", state=state, actions=actions)
    return folder


def test_a_fault_is_found(tmp_path: Path) -> None:
    """The negative control: a page whose checkpoints lose the step."""
    page = next(page for page, _ in SHOWN if page.stem == "write-other-components")
    bad = tmp_path / "bad.md"
    sound = page.read_text("utf-8")
    assert sound.count("        return tree") == 1
    bad.write_text(sound.replace("        return tree", '        return {**tree, "step": 0}'))
    found = kit_faults(bad, "gzipped.py", tmp_path / "written")
    assert any(" round_trip_is_exact: " in fault for fault in found), found
