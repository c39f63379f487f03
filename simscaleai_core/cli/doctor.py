"""``simscale plugins doctor``: every fault of every plugin, each with the command that fixes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
from attrs import asdict, frozen
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from simscaleai_core.cli.known_commands import refused_commands
from simscaleai_core.cli.output import print_json, print_table, print_text
from simscaleai_core.errors import PluginError
from simscaleai_core.host.entry_points import CORE
from simscaleai_core.host.facade import Host
from simscaleai_core.host.lookup import import_target
from simscaleai_core.host.records import Component, PluginRecord
from simscaleai_core.host.validation import listener_faults


@frozen(kw_only=True)
class Fault:
    """One thing that is wrong with a plugin."""

    plugin: str
    """Name of the plugin."""
    distribution: str
    """Distribution and version that ship it."""
    state: str
    """What became of the plugin."""
    fault: str
    """What is wrong."""
    remedy: str
    """Command that fixes it, or keeps it out until its author does."""


def doctor(name: str | None = None, /, *, deep: bool = False, json: bool = False) -> int:
    """Load every plugin and name every fault, with the command that fixes it.

    Args:
        name: One plugin, or its distribution; all of them if not given.
        deep: Also import everything that the plugins name, and build options from defaults.
        json: Print one JSON object and nothing else.

    Returns:
        0 if everything is sound, 1 if there is a fault.
    """
    host = Host()
    components = host.components
    records = host.records if name is None else [host.record(name)]
    faults = [fault for record in records for fault in _faults(record, host, deep=deep)]
    faults += _faults_of_commands(host, None if name is None else records[0])
    ambiguous = ambiguous_names(components)
    if json:
        print_json({"faults": [asdict(f) for f in faults], "ambiguous": ambiguous})
        return 1 if faults else 0
    for fault in faults:
        print_text(f"{fault.plugin} ({fault.distribution}) is {fault.state}: {fault.fault}")
        print_text(f"    {fault.remedy}")
    for short, ids in ambiguous.items():
        print_table([(short, ", ".join(ids))], headers=("ambiguous name", "choose one"))
    if not faults:
        print_text(f"{len(records)} plugins, {len(components)} components, no fault")
    return 1 if faults else 0


def ambiguous_names(components: list[Component]) -> dict[str, list[str]]:
    """Return the short names that several plugins offer, each with the full ids to choose from."""
    by_name: dict[tuple[str, str], list[str]] = {}
    for component in components:
        by_name.setdefault((component.kind, component.spec.name), []).append(component.id)
    return {f"{kind} {name}": sorted(ids) for (kind, name), ids in by_name.items() if ids[1:]}


def _faults(record: PluginRecord, host: Host, *, deep: bool) -> Iterator[Fault]:
    keep_out = f"simscale --no-plugin {record.name} ..."
    older = CORE if _is_core_older(*record.misfit) else record.distribution
    upgrade = f"pip install --upgrade {older}    (until then: {keep_out})"
    for text in _faults_of_loading(record):
        yield _fault(record, text, upgrade if record.state == "incompatible" else keep_out)
    if record.state == "loaded" and record.reason:
        text = f"it goes by another name: {record.reason}"
        yield _fault(record, text, f"pip uninstall {record.distribution}")
    if record.heavy:
        text = (
            f"loading it imports {', '.join(record.heavy)} ({record.import_ms:.0f} ms); its author "
            "should name what needs them by string, 'package.module:attr'"
        )
        yield _fault(record, text, keep_out)
    if deep and record.state == "loaded":
        for component in host.components:
            if component.plugin == record.name:
                yield from (_fault(record, t, upgrade) for t in _faults_of_component(component))


def _faults_of_commands(host: Host, only: PluginRecord | None) -> Iterator[Fault]:
    records = {record.distribution: record for record in host.records}
    for offer, reason, remedy in refused_commands(host.selection):
        record = records.get(offer.distribution)
        if only is None or only is record:
            yield Fault(
                plugin=record.name if record else offer.distribution,
                distribution=f"{offer.distribution} {offer.version}",
                state=record.state if record else "installed",
                fault=f"its command {offer.name.replace('.', ' ')!r} is not used: {reason}",
                remedy=remedy,
            )


def _is_core_older(wanted: str, version: str) -> bool:
    """Return whether it is the core that has to be upgraded, and not the plugin."""
    return any(
        bound.operator in {">", ">=", "==", "~="}
        and not bound.contains(version, prereleases=True)
        and Version(bound.version.removesuffix(".*")) >= Version(version)
        for bound in SpecifierSet(wanted)
    )


def _fault(record: PluginRecord, text: str, remedy: str) -> Fault:
    return Fault(
        plugin=record.name,
        distribution=record.source,
        state=record.state,
        fault=text,
        remedy=remedy,
    )


def _faults_of_loading(record: PluginRecord) -> list[str]:
    if record.state not in {"failed", "incompatible"}:
        return []
    has_traceback = any("Traceback" in text for text in record.faults)
    lines = record.faults[:1] if has_traceback else record.faults
    return [text.splitlines()[0] for text in lines or (record.reason,) if text]


def _faults_of_component(component: Component) -> Iterator[str]:
    try:
        target: Any = import_target(component)
    except PluginError as error:
        yield str(error)
    else:
        members = {n: getattr(target, n) for n in dir(target) if n.startswith("simscale_")}
        yield from (f"{component.id}: {text}" for text in listener_faults(members))
    if component.spec.options is None:
        return
    try:
        cls: Any = import_target(component, component.spec.options)
        if not any(f.default is attrs.NOTHING for f in attrs.fields(cls)):
            cls()
    except PluginError as error:
        yield str(error)
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything
        yield (
            f"the options of {component.id} cannot be built from their defaults: "
            f"{type(error).__name__}: {error}"
        )
