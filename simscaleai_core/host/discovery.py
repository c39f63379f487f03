"""Finding plugins by metadata alone, in an order that does not depend on the file system."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from simscaleai_core.host.entry_points import CORE, GROUP, Offer, core_version, normalized, offers
from simscaleai_core.host.records import PluginRecord
from simscaleai_core.host.selection import BUILTIN, PluginSelection, is_file, is_unpublished


def discover(selection: PluginSelection) -> list[PluginRecord]:
    """List every installed plugin without importing any: the core's, then by name."""
    installed = core_version()
    records: dict[str, PluginRecord] = {}
    conflicts: dict[str, tuple[str, str] | None] = {}
    for offer in offers(GROUP):
        conflicts[offer.distribution] = _core_conflict(offer, installed)
        name, distribution, target, version, _ = offer
        record = PluginRecord(name=name, distribution=distribution, version=version, target=target)
        _place(records, record)
    for record in records.values():
        if reason := selection.blocks(record.name, record.distribution):
            record.state, record.reason = "blocked", reason
        elif conflict := conflicts[record.distribution]:
            record.state, record.misfit = "incompatible", conflict
            record.reason = f"it needs {CORE} {conflict[0]}, installed is {conflict[1]}"
    for record in _being_written(selection.required, records.values()):
        _place(records, record)
    core = PluginRecord(
        name=BUILTIN,
        distribution=CORE,
        version=installed,
        target="simscaleai_core.builtin.plugin",
    )
    return [core, *sorted(records.values(), key=lambda r: (r.name, r.distribution))]


def _place(records: dict[str, PluginRecord], record: PluginRecord) -> None:
    """File a record; of two with one name, ``simscaleai-plugin-<name>`` keeps the short one."""
    if normalized(record.name) == BUILTIN:
        record.reason = f"the name {BUILTIN!r} is the core's own; use {record.distribution!r}"
        record.name = record.distribution
    short = normalized(record.name)
    holder = records.setdefault(short, record)
    if holder.distribution == record.distribution:
        return
    first = record.distribution == f"simscaleai-plugin-{short}"
    keeper, other = (record, holder) if first else (holder, record)
    other.name = other.distribution
    other.reason = f"the name {short!r} belongs to {keeper.source}; use {other.name!r}"
    records[short] = keeper
    records[normalized(other.name)] = other


def _being_written(
    required: Iterable[str], installed: Iterable[PluginRecord]
) -> list[PluginRecord]:
    """Return a record for each plugin that ``--plugin`` gives as a file or as a module's name."""
    known = {normalized(name) for r in installed for name in (r.name, r.distribution)}
    return [
        PluginRecord(
            name=Path(name).stem if is_file(name) else name.rpartition(".")[2],
            distribution=name,
            version="",
            target=name,
        )
        for name in required
        if is_unpublished(name) and normalized(name) not in known
    ]


def _core_conflict(offer: Offer, version: str) -> tuple[str, str] | None:
    """Return the range of cores that excludes this one, and this one; pip may be bypassed."""
    from packaging.requirements import InvalidRequirement, Requirement

    for text in offer.requires:
        if not normalized(text).startswith(CORE):
            continue  # most of them; parsing takes its time
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        wanted = requirement.specifier
        if normalized(requirement.name) == CORE and not wanted.contains(version, prereleases=True):
            return str(wanted), version
    return None
