"""What the installed distributions' metadata says, read without importing any of them.

Light on purpose: ``simscale --help`` needs nothing else of the host.
"""

from __future__ import annotations

import re
from importlib import metadata
from typing import Any, NamedTuple

GROUP = "simscaleai.plugins"
"""Entry-point group of plugins; the target is a light module called ``plugin``."""
CORE = "simscaleai-core"
"""The core's own distribution."""

_FIELD = re.compile(r"^(Name|Version|Requires-Dist): (.*)$", re.MULTILINE)


class Offer(NamedTuple):
    """An entry point and the distribution that has it."""

    name: str
    """Name of the entry point."""
    distribution: str
    """Name of the distribution, as packaging writes it."""
    target: str
    """What the entry point names, ``"module"`` or ``"module:attribute"``."""
    version: str
    """Version of the distribution."""
    requires: tuple[str, ...]
    """What the distribution requires."""


def offers(group: str, points: Any = None) -> list[Offer]:
    """Return the entry points of a group, sorted by (name, distribution, target).

    `points` is what `importlib.metadata.entry_points` returns, if it was asked already.
    """
    points = points or metadata.entry_points()
    about: dict[int, tuple[str, str, tuple[str, ...]]] = {}  # parsing is what takes time
    found = []
    for point in points.select(group=group):
        key = id(point.dist)
        if key not in about:
            about[key] = _about(point.dist)
        distribution, version, requires = about[key]
        found.append(Offer(point.name, distribution, point.value, version, requires))
    return sorted(found)


def core_version() -> str:
    """Return the installed version of the core; ``"0"`` if it runs from bare files."""
    try:
        return metadata.version(CORE)
    except metadata.PackageNotFoundError:
        return "0"


def normalized(name: str) -> str:
    """Return a distribution's name as packaging compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _about(distribution: metadata.Distribution | None) -> tuple[str, str, tuple[str, ...]]:
    """Return name, version and requirements; ``distribution.metadata`` parses the README too."""
    if distribution is None:
        return "?", "?", ()
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    header = text.partition("\n\n")[0]
    fields: dict[str, list[str]] = {"Name": ["?"], "Version": ["?"], "Requires-Dist": []}
    for name, value in _FIELD.findall(header):
        fields[name].append(value.strip())
    return normalized(fields["Name"][-1]), fields["Version"][-1], tuple(fields["Requires-Dist"])
