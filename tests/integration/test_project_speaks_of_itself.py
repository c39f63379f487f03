"""The repository speaks of the project, not of the machine that it was written on."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
PLUGINS = sorted(path.parent for path in REPOSITORY.glob("plugins/*/pyproject.toml"))
DISTRIBUTIONS = [REPOSITORY, *PLUGINS, Path(__file__).parent / "acme"]

FORBIDDEN = {
    "a path of one machine": r"/(work|root|home)/|/tmp/dev",
    "an open end": r"\b(TODO|FIXME|XXX)\b",
    "a package registry's host": (
        r"pypi\.org/simple|pythonhosted\.org|download\.pytorch\.org|artifactory|index-url"
    ),
}


def tracked_texts() -> list[Path]:
    """Every tracked file that is text; not this one, which names what it looks for."""
    command = ["git", "-C", str(REPOSITORY), "ls-files", "-z"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    paths = [REPOSITORY / name for name in listed.split("\0") if name]
    paths = [path for path in paths if path.is_file() and path != Path(__file__)]
    return [path for path in paths if b"\0" not in path.read_bytes()[:8192]]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_tracked_file_contains(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what])
    found = [
        f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()[:100]}"
        for path in tracked_texts()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1)
        if pattern.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("what", FORBIDDEN)
def test_the_search_finds(what: str) -> None:
    """The negative control."""
    samples = {
        "a path of one machine": "see /work/shared",
        "an open end": "# TODO: later",
        "a package registry's host": "https://download.pytorch.org/whl",
    }
    assert re.search(FORBIDDEN[what], samples[what])
    assert not re.search(FORBIDDEN[what], "a method to do work in /tmp, at home or at the root")


@pytest.fixture(params=DISTRIBUTIONS, ids=lambda path: path.name)
def distribution(request: pytest.FixtureRequest) -> tuple[Path, dict[str, Any]]:
    """The folder of a distribution and its metadata."""
    folder: Path = request.param
    return folder, tomllib.loads((folder / "pyproject.toml").read_text())


def test_distribution_is_complete(distribution: tuple[Path, dict[str, Any]]) -> None:
    folder, settings = distribution
    about = settings["project"]
    assert {"name", "version", "description", "requires-python", "dependencies"} <= set(about)
    assert about["license"] == "Apache-2.0"
    assert (folder / "LICENSE").read_bytes() == (REPOSITORY / "LICENSE").read_bytes()
    (package,) = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert (folder / package / "py.typed").is_file()
    assert (folder / package / "__init__.py").read_text().startswith('"""')


def test_readme_says_what_it_is(distribution: tuple[Path, dict[str, Any]]) -> None:
    folder, settings = distribution
    text = (folder / settings["project"]["readme"]).read_text()
    assert len(text.split()) >= 50, "a README of a line says nothing"
    assert "pip install " in text or "make demo" in text


def test_entry_points_are_valid(distribution: tuple[Path, dict[str, Any]]) -> None:
    """Targets exist; a plugin's is a module called `plugin`, its name the distribution's."""
    folder, settings = distribution
    about = settings["project"]
    groups = about.get("entry-points", {})
    assert set(groups) <= {"simscaleai.plugins", "simscaleai.commands"}
    plugins = groups.get("simscaleai.plugins", {})
    if about["name"].startswith("simscaleai-plugin-"):
        assert list(plugins) == [about["name"].removeprefix("simscaleai-plugin-")]
    assert all(target.endswith(".plugin") for target in plugins.values())
    targets = [t for group in groups.values() for t in group.values()]
    for target in [*targets, *about.get("scripts", {}).values()]:
        module, _, attribute = target.partition(":")
        is_core = module.startswith("simscaleai_core.")  # as the program of the umbrella
        source = (REPOSITORY if is_core else folder).joinpath(*module.split(".")).with_suffix(".py")
        assert source.is_file(), target
        assert not attribute or re.search(rf"^(def )?{attribute}\b", source.read_text(), re.M)


def test_declared_targets_can_be_imported() -> None:
    """Every component that a first-party plugin declares is where it says."""
    from simscaleai_core.host.facade import Host
    from simscaleai_core.host.lookup import import_target

    for component in Host().components:
        assert import_target(component) is not None
        if component.spec.options is not None:
            assert import_target(component, component.spec.options) is not None


def test_first_party_versions_agree() -> None:
    """Every distribution has the core's version, and asks for that series of the others."""
    projects = [
        tomllib.loads((path / "pyproject.toml").read_text())["project"]
        for path in (REPOSITORY, *PLUGINS)
    ]
    (version,) = {project["version"] for project in projects}
    major, minor, _ = version.split(".")
    series = f">={major}.{minor},<{major}.{int(minor) + 1}"
    for project in projects:
        optional = project.get("optional-dependencies", {}).values()
        everything = [*project["dependencies"], *(r for extra in optional for r in extra)]
        for requirement in everything:
            if requirement.startswith("simscaleai"):
                assert requirement.endswith(series), (project["name"], requirement)
