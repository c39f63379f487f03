"""Check that all distributions have one version, or give them a new one.

The version stands in the root `pyproject.toml`. Every plugin's `pyproject.toml` repeats it, because
a source distribution must be complete by itself, and requires the same series of our other
distributions (`>=0.2,<0.3` for 0.2.0). Documentation and templates show that range too. This script
is what keeps the copies equal.

    python scripts/versions.py --check
    python scripts/versions.py --set 0.3.0
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import frozen

REPOSITORY = Path(__file__).resolve().parents[1]
_COPIES = "plugins/*/pyproject.toml"
_RANGES = (
    _COPIES,
    "README.md",
    "docs/**/*.md",
    "plugins/*/README.md",
    "plugins/*/*/scaffold/templates/**/*.tmpl",
    "tests/integration/*/pyproject.toml",
)
_RELEASE = re.compile(r"\d+\.\d+\.\d+")
_VERSION = re.compile(r'^version = "(?P<value>[^"]*)"$', re.MULTILINE)
_REQUIREMENT = re.compile(
    r"(?P<name>\bsimscaleai(?:-[a-z0-9]+)*)(?:\[[a-z0-9,-]+\])?"
    r"(?P<value>[<>=!~]=?\d(?:[\d.,<>=!~*]*[\d*])?)"
)


@frozen
class Mention:
    """One place that repeats the version or a range that follows from it."""

    path: Path
    """File that holds it."""
    line: int
    """Line in that file, from 1."""
    subject: str
    """`version`, or the distribution that is required."""
    span: tuple[int, int]
    """First character and the one after the last, in the file's text."""
    found: str
    """What stands there."""
    expected: str
    """What the root's version asks for."""


def root_version(root: Path) -> str:
    """Return the version in the root `pyproject.toml`."""
    return str(_project(root / "pyproject.toml")["version"])


def series(version: str) -> str:
    """Return the range of versions that work with this one.

    Example:
        >>> series("0.2.7")
        '>=0.2,<0.3'
    """
    major, minor, _ = version.split(".")
    return f">={major}.{minor},<{major}.{int(minor) + 1}"


def mentions(root: Path, version: str) -> Iterator[Mention]:
    """Yield every place that repeats the version, or a range of our own distributions.

    Args:
        root: Root of the repository.
        version: The version that the copies should have.
    """
    for path in sorted(root.glob(_COPIES)):
        text = path.read_text(encoding="utf-8")
        for match in _VERSION.finditer(text):
            yield _mention(path, text, "version", match, version)
    own = {str(_project(path)["name"]) for path in _metadata(root)}
    for path in sorted({path for pattern in _RANGES for path in root.glob(pattern)}):
        text = path.read_text(encoding="utf-8")
        for match in _REQUIREMENT.finditer(text):
            if match["name"] in own:
                yield _mention(path, text, match["name"], match, series(version))


def problems(root: Path) -> list[str]:
    """Return one line for each place that does not agree with the root's version."""
    version = root_version(root)
    if not _RELEASE.fullmatch(version):
        return [f"pyproject.toml: version: expected X.Y.Z, got {version!r}"]
    wrong = [
        f"{place.path.relative_to(root)}:{place.line}: {place.subject}: "
        f"expected {place.expected}, got {place.found}"
        for place in mentions(root, version)
        if place.found != place.expected
    ]
    return wrong + [line for path in _metadata(root) for line in _missing(root, path, version)]


def write(root: Path, version: str) -> list[Path]:
    """Write a version, and the ranges that follow from it, everywhere; formatting stays.

    Args:
        root: Root of the repository.
        version: The new version, as `X.Y.Z`.

    Returns:
        The files that changed.
    """
    top = root / "pyproject.toml"
    text = top.read_text(encoding="utf-8")
    match = _VERSION.search(text)
    places = [] if match is None else [_mention(top, text, "version", match, version)]
    by_file: dict[Path, list[Mention]] = {}
    for place in [*places, *mentions(root, version)]:
        by_file.setdefault(place.path, []).append(place)
    return [path for path, places in by_file.items() if _rewrite(path, places)]


def _rewrite(path: Path, places: list[Mention]) -> bool:
    text = before = path.read_text(encoding="utf-8")
    for place in sorted(places, key=lambda place: place.span, reverse=True):
        start, stop = place.span
        text = text[:start] + place.expected + text[stop:]
    path.write_text(text, encoding="utf-8")
    return text != before


def _mention(path: Path, text: str, subject: str, match: re.Match[str], expected: str) -> Mention:
    return Mention(
        path=path,
        line=text.count("\n", 0, match.start("value")) + 1,
        subject=subject,
        span=match.span("value"),
        found=match["value"],
        expected=expected,
    )


def _missing(root: Path, path: Path, version: str) -> Iterator[str]:
    """Yield what a file should have and has not: a version, or a range for a distribution."""
    where, project = path.relative_to(root), _project(path)
    if "version" not in project:
        yield f"{where}: version: expected {version}, got none"
    extras = project.get("optional-dependencies", {}).values()
    for requirement in [*project.get("dependencies", ()), *(r for e in extras for r in e)]:
        if requirement.startswith("simscaleai") and not _REQUIREMENT.match(requirement):
            yield f"{where}: {requirement}: expected {series(version)}, got no range"


def _metadata(root: Path) -> list[Path]:
    return [root / "pyproject.toml", *sorted(root.glob(_COPIES))]


def _project(path: Path) -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    return project


def _release(text: str) -> str:
    """Return a version given on the command line."""
    if not _RELEASE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected X.Y.Z, got {text!r}")
    return text


def main() -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(description="One version for all distributions.")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--check", action="store_true", help="name every copy that differs")
    action.add_argument("--set", type=_release, metavar="X.Y.Z", help="write a new version")
    parser.add_argument("--root", type=Path, default=REPOSITORY, help="root of the repository")
    arguments = parser.parse_args()
    if arguments.set is not None:
        for path in write(arguments.root, arguments.set):
            print(f"wrote {path.relative_to(arguments.root)}")
    wrong = problems(arguments.root)
    for line in wrong:
        print(line)
    version = root_version(arguments.root)
    if wrong:
        print(f"Make them agree: python scripts/versions.py --set {version}")
        return 1
    print(f"all distributions have version {version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
