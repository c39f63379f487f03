"""All distributions have one version, and `scripts/versions.py` keeps it so."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "versions.py"
TEXTS = (
    "pyproject.toml",
    "README.md",
    "docs/**/*.md",
    "plugins/*/pyproject.toml",
    "plugins/*/README.md",
    "plugins/*/*/scaffold/templates/**/*.tmpl",
    "tests/integration/*/pyproject.toml",
)
BC = "plugins/simscaleai-plugin-bc/pyproject.toml"
VLA = "plugins/simscaleai-plugin-vla/pyproject.toml"
PAGE = "docs/tutorial/first-plugin.md"


def _run(*arguments: str, root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments, "--root", str(root)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _contents(root: Path) -> dict[Path, str]:
    return {
        path.relative_to(root): path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The files that name a version, at version 0.2.0, whatever the repository's is."""
    for source in {path for pattern in TEXTS for path in ROOT.glob(pattern)}:
        target = tmp_path / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    done = _run("--set", "0.2.0", root=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    return tmp_path


def test_all_distributions_have_one_version() -> None:
    done = _run("--check", root=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("all distributions have version ")


@pytest.mark.parametrize(
    ("path", "old", "new", "message"),
    [
        (BC, 'version = "0.2.0"', 'version = "0.2.1"', "version: expected 0.2.0, got 0.2.1"),
        (BC, 'version = "0.2.0"\n', "", "version: expected 0.2.0, got none"),
        (
            VLA,
            "simscaleai-plugin-bc>=0.2,<0.3",
            "simscaleai-plugin-bc>=0.1,<0.2",
            "simscaleai-plugin-bc: expected >=0.2,<0.3, got >=0.1,<0.2",
        ),
        (
            VLA,
            "simscaleai-core>=0.2,<0.3",
            "simscaleai-core",
            "simscaleai-core: expected >=0.2,<0.3, got no range",
        ),
        (
            PAGE,
            "simscaleai-core>=0.2,<0.3",
            "simscaleai-core>=0.2",
            "simscaleai-core: expected >=0.2,<0.3, got >=0.2",
        ),
    ],
)
def test_a_copy_that_differs_is_named(
    copy: Path, path: str, old: str, new: str, message: str
) -> None:
    """The negative control: one edit, one line that says where, expected and found."""
    text = (copy / path).read_text()
    assert old in text
    (copy / path).write_text(text.replace(old, new, 1))
    done = _run("--check", root=copy)
    assert done.returncode == 1
    (line, remedy) = done.stdout.splitlines()
    assert line.startswith(path)
    assert line.endswith(message)
    assert remedy == "Make them agree: python scripts/versions.py --set 0.2.0"


def test_a_new_version_is_written_everywhere(copy: Path) -> None:
    before = _contents(copy)
    done = _run("--set", "1.4.2", root=copy)
    assert done.returncode == 0, done.stdout + done.stderr
    after = _contents(copy)
    changed = {str(path) for path in before if before[path] != after[path]}
    naming = {str(path) for path in before if ">=0.2,<0.3" in before[path]}
    assert changed == naming | {"pyproject.toml"} >= {PAGE, BC, VLA}
    assert 'version = "1.4.2"' in after[Path("pyproject.toml")]
    assert '"simscaleai-core>=1.4,<1.5"' in after[Path(VLA)]
    assert '"simscaleai-core[plot]>=1.4,<1.5"' in after[Path("plugins/simscaleai/pyproject.toml")]
    assert '"mujoco>=4"' in after[Path("plugins/simscaleai-plugin-sim/pyproject.toml")]


def test_nothing_else_in_the_files_changes(copy: Path) -> None:
    before = _contents(copy)
    _run("--set", "1.4.2", root=copy)
    _run("--set", "0.2.0", root=copy)
    assert _contents(copy) == before


def test_a_range_in_a_template_follows(copy: Path) -> None:
    templates = next(copy.glob("plugins/*/*/scaffold/templates/common"))
    (templates / "extra.toml.tmpl").write_text('dev = ["simscaleai-devkit[test]>=0.2,<0.3"]\n')
    _run("--set", "0.3.0", root=copy)
    assert (templates / "extra.toml.tmpl").read_text() == (
        'dev = ["simscaleai-devkit[test]>=0.3,<0.4"]\n'
    )


def test_a_range_in_a_sentence_follows(copy: Path) -> None:
    page = copy / "docs" / "new.md"
    page.write_text(
        "Ask for simscaleai-core>=0.2,<0.3. A plugin of others, acme>=0.2,<0.3, stays.\n"
    )
    _run("--set", "0.3.0", root=copy)
    assert page.read_text() == (
        "Ask for simscaleai-core>=0.3,<0.4. A plugin of others, acme>=0.2,<0.3, stays.\n"
    )


def test_a_version_that_is_no_release_is_refused(copy: Path) -> None:
    before = _contents(copy)
    done = _run("--set", "0.3", root=copy)
    assert done.returncode == 2
    assert "expected X.Y.Z, got '0.3'" in done.stderr
    assert _contents(copy) == before
