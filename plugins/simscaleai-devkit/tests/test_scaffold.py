"""``plugins new`` writes a whole distribution of every kind, under any name that can be one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import attrs
import pytest
import simscaleai_devkit
from simscaleai_devkit.scaffold import KINDS, first_use, new_plugin

from simscaleai_core import plugin
from simscaleai_core.cli.app import run
from simscaleai_core.errors import ConfigError
from simscaleai_core.hookspecs import __name__ as hookspecs_name

NAMES = {"short": "x", "plain": "my-thing", "long": "a-rather-long-name-of-a-plugin-of-ours-x"}
EVERY = [(kind, name) for kind in KINDS for name in NAMES.values()]
FILES = {
    ".github/workflows/publish.yml",
    ".github/workflows/test.yml",
    ".gitignore",
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "pyproject.toml",
    "tests/test_conformance.py",
    "tests/test_end_to_end.py",
    *(f"PACKAGE/{name}" for name in ("__init__.py", "options.py", "plugin.py", "py.typed")),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a plugin of every kind and name, at KIND/NAME."""
    root = tmp_path_factory.mktemp("scaffold")
    for kind, name in EVERY:
        new_plugin(name, kind, root / kind / name)
    return root


def test_there_is_a_scaffold_for_every_kind() -> None:
    assert {kind.replace("-", "_") for kind in KINDS} == set(plugin.KINDS)
    for kind, about in KINDS.items():
        assert about.spec == plugin.KINDS[kind.replace("-", "_")].__name__
        assert hasattr(sys.modules[hookspecs_name], about.hook)
        assert about.suite in simscaleai_devkit.__all__


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_every_file_is_there_and_complete(written: Path, kind: str, name: str) -> None:
    folder = written / kind / name
    package = f"simscaleai_plugin_{name.replace('-', '_')}"
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    module = f"PACKAGE/{KINDS[kind].module}.py"
    assert {f.replace(package, "PACKAGE") for f in found} == FILES | {module}
    for path in (folder / f for f in found):
        text = path.read_text()
        if path.suffix == ".yml":
            text = re.sub(r"\$\{\{ matrix\.\w+ \}\}", "", text)
        assert "$" not in text and "tmpl" not in text, path
        assert not text or (text.endswith("\n") and not text.endswith("\n\n")), path
        if path.suffix == ".py":
            compile(text, path, "exec")


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_metadata(written: Path, kind: str, name: str) -> None:
    folder = written / kind / name
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    package = f"simscaleai_plugin_{name.replace('-', '_')}"
    assert project["name"] == f"simscaleai-plugin-{name}"
    assert project["entry-points"]["simscaleai.plugins"] == {name: f"{package}.plugin"}
    (core, *more) = project["dependencies"]
    assert re.fullmatch(r"simscaleai-core>=(\d+)\.(\d+),<\1\.\d+", core)
    assert more == list(KINDS[kind].needs)
    (group,) = tomllib.loads((folder / "pyproject.toml").read_text())["dependency-groups"].values()
    assert core.replace("-core", "-devkit") in group
    declared = (folder / package / "plugin.py").read_text()
    assert f'selects={{"{kind.replace("-", "_")}": "{name}"}}' in declared
    assert first_use(name, kind) in (folder / "README.md").read_text()


def test_the_code_is_formatted_and_free_of_lint(written: Path) -> None:
    """By the settings in the pyproject.toml of each."""
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", str(written)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_options_of_every_kind_have_a_default(written: Path) -> None:
    """The options are the author's first example: documented, valid, with a limit."""
    for kind, name in EVERY:
        if name != NAMES["plain"]:
            continue
        (path,) = (written / kind / name).glob("*/options.py")
        space: dict[str, object] = {"__name__": "options"}
        exec(compile(path.read_text(), path, "exec"), space)
        cls = space["Options"]
        assert isinstance(cls, type) and attrs.has(cls)
        assert all(f.validator is not None for f in attrs.fields(cls))
        cls()


@pytest.mark.parametrize(
    "name",
    ["", "My-Policy", "my_policy", "1st", "my--policy", "-x", "x-", "a b", "../x", "x" * 41,
     "builtin", "seed", "max-steps", "plugins"],
)  # fmt: skip
def test_names_that_cannot_be_one_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"^name: .*"):
        new_plugin(name, "model", tmp_path / "x")
    assert not [*tmp_path.iterdir()]


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"kind: expected one of model, .* got 'policy'"):
        new_plugin("mine", "policy", tmp_path / "x")
    assert not [*tmp_path.iterdir()]


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for folder in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(ConfigError, match="there is something at"):
            new_plugin("mine", "model", folder)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    (tmp_path / "empty").mkdir()
    assert new_plugin("mine", "model", tmp_path / "empty")


def test_the_command_says_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["plugins", "new", "mine", "--kind", "env"]) == 0
    said = capsys.readouterr().out
    assert "pip install --editable . --group dev" in said
    assert first_use("mine", "env") in said
    assert run(["plugins", "new", "other", "--kind", "logger", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["folder"] == "simscaleai-plugin-other"
    assert all((tmp_path / facts["folder"] / name).is_file() for name in facts["files"])
    assert run(["plugins", "new", "mine", "--kind", "env"]) == 2
    assert "Choose another --output" in capsys.readouterr().err
