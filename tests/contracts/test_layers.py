"""The import contracts of pyproject.toml are kept."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("importlinter")

ROOT = Path(__file__).parents[2]
PACKAGE_DIRS = [ROOT, *sorted(p for p in (ROOT / "plugins").iterdir() if p.is_dir())]


def _lint(config: Path) -> subprocess.CompletedProcess[str]:
    code = (
        "import sys; from importlinter.cli import lint_imports; "
        f"sys.exit(lint_imports(config_filename={str(config)!r}, no_cache=True))"
    )
    path = os.pathsep.join(map(str, PACKAGE_DIRS))
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _settings() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]


def test_every_import_contract_is_kept() -> None:
    done = _lint(ROOT / "pyproject.toml")
    kept = len(_settings()["contracts"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{kept} kept, 0 broken" in done.stdout


def test_a_broken_contract_is_noticed(tmp_path: Path) -> None:
    """Negative control: the tool does find an upward import when there is one."""
    config = tmp_path / "contracts.ini"
    config.write_text(
        "[importlinter]\nroot_package = simscaleai_core\n\n"
        "[importlinter:contract:upside-down]\nname = Upside down\ntype = layers\n"
        "layers =\n    simscaleai_core.errors\n    simscaleai_core.config\n"
    )
    done = _lint(config)
    assert done.returncode == 1
    assert "0 kept, 1 broken" in done.stdout


def test_every_package_is_under_contract() -> None:
    """A plugin that is added must be named in `root_packages`."""
    found = {
        path.parent.name
        for folder in PACKAGE_DIRS
        for path in folder.glob("simscaleai*/__init__.py")
    }
    assert found == set(_settings()["root_packages"])
