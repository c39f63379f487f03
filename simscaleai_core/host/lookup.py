"""From a name to one component, or to an error that shows every way out."""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from types import ModuleType
from typing import Any

from simscaleai_core.errors import PluginError, UnknownComponentError, reason_of, suggestion
from simscaleai_core.host.entry_points import normalized
from simscaleai_core.host.records import Component, PluginRecord
from simscaleai_core.host.selection import BUILTIN
from simscaleai_core.host.validation import hook_specs


def resolve(
    kind: str,
    name: str,
    components: Iterable[Component],
    required: Sequence[str],
    records: Sequence[PluginRecord],
) -> Component:
    """Return the one component that a name means.

    A full id ``plugin/name`` always works; a short name works while it is unambiguous. Among
    several, one of a required plugin wins, and the core's own cannot be shadowed.

    Raises:
        UnknownComponentError: If none or several fit; plugins that are not loaded, and may have
            offered it, are named.
    """
    offered = [c for c in components if c.kind == kind]
    owner, _, short = name.rpartition("/")
    fits = [c for c in offered if c.spec.name == short]
    fits = [c for c in fits if normalized(owner) in {"", normalized(c.plugin)}]
    for preferred in ([BUILTIN], required):
        narrowed = [c for c in fits if c.plugin in preferred]
        if len(fits) > 1 and len(narrowed) == 1:
            fits = narrowed
    if len(fits) == 1:
        return fits[0]
    readable = kind.replace("_", " ")
    if fits:
        width = max(len(c.id) for c in fits)
        fits.sort(key=lambda c: c.id)
        lines = [f"\n  {flag_of(kind)} {c.id:<{width}}  from {c.distribution}" for c in fits]
        raise UnknownComponentError(
            f"{readable} {name!r} is provided by {len(fits)} plugins; choose one:{''.join(lines)}",
            kind=kind,
            name=name,
            candidates=[c.id for c in fits],
        )
    known = sorted({c.spec.name for c in offered})
    close = suggestion(name, [*known, *(c.id for c in offered)])
    message = f"unknown {readable} {name!r}. Installed: {', '.join(known) or 'none'}."
    if close:
        message += f" Did you mean {close!r}?"
    message += "".join(f"\n  {line}" for line in not_loaded(records))
    raise UnknownComponentError(message, kind=kind, name=name, candidates=known)


def not_loaded(records: Sequence[PluginRecord]) -> list[str]:
    """Return a line for each plugin that is not loaded and may have offered what was not found."""
    lines = [
        f"plugin {r.name!r} ({r.source}), which may have offered it, is {r.state}: {r.reason}"
        for r in records
        if r.state in {"failed", "incompatible"}
    ]
    if blocked := [r.name for r in records if r.state == "blocked"]:
        lines.append(f"kept out by --no-plugin or SIMSCALE_PLUGINS: {', '.join(blocked)}")
    return lines


def flag_of(kind: str) -> str:
    """Return the flag of ``train`` that names a component of a kind."""
    others = {"dataset": "--dataset-name", "eval_function": "--eval-fn", "executor": "--on"}
    return others.get(kind, f"--{kind.replace('_', '-')}")


def import_target(component: Component, target: str | None = None) -> Any:
    """Return what a component names, imported: ``"package.module:attr"``, its target if None.

    Raises:
        PluginError: If the import fails; it names the plugin and its distribution.
    """
    what = f"{component.kind} {component.id!r}"
    place = target or component.spec.target
    return _imported(place, what, component.plugin, component.distribution)


def import_hookspecs(record: PluginRecord) -> ModuleType:
    """Return the module, imported, in which a loaded plugin specifies hooks of its own."""
    place = (record.info and record.info.hookspecs) or ""
    prefix = f"{record.name.replace('-', '_')}_"
    what = f"the hooks of plugin {record.name!r}"
    module: ModuleType = _imported(place, what, record.name, record.source)
    foreign = [name for name in hook_specs(module) if not name.startswith(prefix)]
    if foreign:
        raise PluginError(
            f"plugin {record.name!r} ({record.source}) names hooks {', '.join(foreign)} @ {place}: "
            f"expected names that begin with {prefix!r}. Rename them.",
            plugin=record.name,
            distribution=record.source,
        )
    return module


def _imported(place: str, what: str, plugin: str, source: str) -> Any:
    try:
        with redirect_stdout(sys.stderr):  # what it prints may not mix with results
            return pkgutil.resolve_name(place if ":" in place else f"{place}:")
    except (Exception, SystemExit) as error:
        message = f"{what} ({source}) cannot be imported from {place}: {reason_of(error)}"
        raise PluginError(message, plugin=plugin, distribution=source) from error
