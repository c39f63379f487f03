"""From a name to one component, or to an error that shows every way out."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

from simscaleai_core.errors import PluginError, UnknownComponentError, suggestion
from simscaleai_core.host.records import Component, PluginRecord
from simscaleai_core.host.selection import BUILTIN
from simscaleai_core.host.validation import own_hook_specs


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
    fits = [c for c in offered if name in {c.id, c.spec.name}]
    for preferred in ([BUILTIN], required):
        narrowed = [c for c in fits if c.plugin in preferred]
        if len(fits) > 1 and len(narrowed) == 1:
            fits = narrowed
    if len(fits) == 1:
        return fits[0]
    readable = kind.replace("_", " ")
    if fits:
        flag = f"--{kind.replace('_', '-')}"
        width = max(len(c.id) for c in fits)
        lines = [
            f"  {flag} {c.id:<{width}}  from {c.distribution}"
            for c in sorted(fits, key=lambda c: c.id)
        ]
        raise UnknownComponentError(
            f"{readable} {name!r} is provided by {len(fits)} plugins; choose one:\n"
            + "\n".join(lines),
            kind=kind,
            name=name,
            candidates=sorted(c.id for c in fits),
        )
    known = sorted({c.spec.name for c in offered})
    close = suggestion(name, [*known, *(c.id for c in offered)])
    message = f"unknown {readable} {name!r}. Installed: {', '.join(known) or 'none'}."
    if close:
        message += f" Did you mean {close!r}?"
    for record in records:
        if record.state in {"failed", "incompatible", "duplicate"}:
            message += (
                f"\n  plugin {record.name!r} ({record.source}), which may have offered it, is "
                f"{record.state}: {record.reason}"
            )
    blocked = [record.name for record in records if record.state == "blocked"]
    if blocked:
        message += f"\n  kept out by --no-plugin or SIMSCALE_PLUGINS: {', '.join(blocked)}"
    raise UnknownComponentError(message, kind=kind, name=name, candidates=known)


def import_target(component: Component, target: str | None = None) -> Any:
    """Return what a component names, imported: ``"package.module:attr"``, its target if None.

    Raises:
        PluginError: If the import fails; it names the plugin and its distribution.
    """  # noqa: DOC501 - built by _import_error
    place = target or component.spec.target
    module_name, _, attribute = place.partition(":")
    try:
        value: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            value = getattr(value, part)
    except (Exception, SystemExit) as error:
        what = f"{component.kind} {component.id!r}"
        raise _import_error(what, component.plugin, component.distribution, place, error) from error
    return value


def import_hookspecs(record: PluginRecord) -> ModuleType:
    """Return the module, imported, in which a loaded plugin specifies hooks of its own.

    Raises:
        PluginError: If the import fails, or a hook's name does not begin with the plugin's.
    """  # noqa: DOC501 - likewise
    place = (record.info and record.info.hookspecs) or ""
    prefix = f"{record.name.replace('-', '_')}_"
    try:
        module = importlib.import_module(place)
    except (Exception, SystemExit) as error:
        what = f"the hooks of plugin {record.name!r}"
        raise _import_error(what, record.name, record.source, place, error) from error
    foreign = [name for name in own_hook_specs(module) if not name.startswith(prefix)]
    if foreign:
        raise PluginError(
            f"plugin {record.name!r} ({record.source}) names hooks {', '.join(foreign)} @ {place}: "
            f"expected names that begin with {prefix!r}. Rename them.",
            plugin=record.name,
            distribution=record.source,
        )
    return module


def _import_error(
    what: str, plugin: str, source: str, place: str, error: BaseException
) -> PluginError:
    reason = f"{type(error).__name__}: {error}"
    message = f"{what} ({source}) cannot be imported from {place}: {reason}"
    return PluginError(message, plugin=plugin, distribution=source)
