"""Finding plugins by metadata alone, in an order that does not depend on the file system."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from simscaleai_core.host.records import PluginRecord
from simscaleai_core.host.selection import BUILTIN, PluginSelection, is_file, is_unpublished

GROUP = "simscaleai.plugins"
"""Entry-point group of plugins; the target is a light module called ``plugin``."""
COMMAND_GROUP = "simscaleai.commands"
"""Entry-point group of commands; the name is the command's."""

_CORE = "simscaleai-core"


def discover(selection: PluginSelection) -> list[PluginRecord]:
    """List every installed plugin without importing any.

    Args:
        selection: Blocks plugins before they are imported.

    Returns:
        Records sorted by (name, distribution), the core's own first.
    """
    points = metadata.entry_points(group=GROUP)
    found = sorted(points, key=lambda p: (p.name, _distribution(p), p.value))
    records: dict[str, PluginRecord] = {}
    for point in found:
        record = _record(point)
        _place(records, record)
    for record in records.values():
        _filter(record, selection)
    for record in _being_written(selection.required, records.values()):
        _place(records, record)
    core = PluginRecord(
        name=BUILTIN,
        distribution=_CORE,
        version=core_version(),
        target="simscaleai_core.builtin.plugin",
    )
    return [core, *sorted(records.values(), key=lambda r: (r.name, r.distribution))]


def command_entry_points(selection: PluginSelection) -> list[metadata.EntryPoint]:
    """List the commands of installed plugins without importing any, sorted by name."""
    points = metadata.entry_points(group=COMMAND_GROUP)
    plugins: dict[str, set[str]] = {}
    for plugin in metadata.entry_points(group=GROUP):
        plugins.setdefault(_distribution(plugin), set()).add(plugin.name)
    by_name: dict[str, metadata.EntryPoint] = {}
    for point in sorted(points, key=lambda p: (p.name, _distribution(p))):
        distribution = _distribution(point)
        if not selection.blocks(distribution, *plugins.get(distribution, ())):
            by_name.setdefault(point.name, point)
    return list(by_name.values())


def core_version() -> str:
    """Return the installed version of the core; ``"0"`` if it runs from bare files."""
    try:
        return metadata.version(_CORE)
    except metadata.PackageNotFoundError:
        return "0"


def _place(records: dict[str, PluginRecord], record: PluginRecord) -> None:
    """File a record; of two with one name, ``simscaleai-plugin-<name>`` keeps the short one."""
    if record.name == BUILTIN:
        record.reason = f"the name {BUILTIN!r} is the core's own; use {record.distribution!r}"
        record.name = record.distribution
    holder = records.get(record.name)
    if holder is None:
        records[record.name] = record
        return
    if holder.distribution == record.distribution:
        return
    keeper, other = holder, record
    if record.distribution == f"simscaleai-plugin-{record.name}":
        keeper, other = record, holder
    short = keeper.name
    other.name = other.distribution
    other.reason = f"the name {short!r} belongs to {keeper.source}; use {other.name!r}"
    records[short] = keeper
    records[other.name] = other


def _being_written(
    required: Iterable[str], installed: Iterable[PluginRecord]
) -> list[PluginRecord]:
    """Return a record for each plugin that ``--plugin`` gives as a file or as a module's name."""
    known = {name for r in installed for name in (r.name, r.distribution)}
    return [
        PluginRecord(
            name=Path(name).stem if is_file(name) else name.rpartition(".")[2],
            distribution=name,
            version="",
            target=name,
        )
        for name in required
        if is_unpublished(name) and name not in known
    ]


def _filter(record: PluginRecord, selection: PluginSelection) -> None:
    reason = selection.blocks(record.name, record.distribution)
    if reason:
        record.state, record.reason = "blocked", reason
        return
    misfit = _core_misfit(record.distribution)
    if misfit:
        record.state, record.reason = "incompatible", misfit


def _core_misfit(distribution: str) -> str:
    """Say why a distribution's own requirement excludes this core; pip may have been bypassed."""
    from packaging.requirements import InvalidRequirement, Requirement

    version = core_version()
    try:
        requires = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return ""
    for text in requires:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        is_core = re.sub(r"[-_.]+", "-", requirement.name).lower() == _CORE
        if is_core and not requirement.specifier.contains(version, prereleases=True):
            return f"it needs {_CORE} {requirement.specifier}, installed is {version}"
    return ""


def _record(point: metadata.EntryPoint) -> PluginRecord:
    distribution = point.dist
    return PluginRecord(
        name=point.name,
        distribution=_distribution(point),
        version=distribution.version if distribution else "?",
        target=point.value,
    )


def _distribution(point: metadata.EntryPoint) -> str:
    name = point.dist.name if point.dist else "?"
    return re.sub(r"[-_.]+", "-", name).lower()
