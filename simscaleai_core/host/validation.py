"""Every fault of a plugin at once, each with what to do, before anything of it is used."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from simscaleai_core import hookspecs
from simscaleai_core.errors import suggestion
from simscaleai_core.plugin import KINDS, PLUGIN_API_VERSION, PluginInfo

PREFIX = "simscale_"
MARKER = "simscaleai_impl"
"""Attribute that the `hookimpl` marker leaves on a function."""
_AT_MODULE = ("simscale_register_", "simscale_migrate_")
SPEC_MARKER = "simscaleai_spec"
"""Attribute that the `hookspec` marker leaves on a function."""


def hook_specs(module: ModuleType = hookspecs) -> dict[str, Callable[..., Any]]:
    """Return every hook that a module specifies, the core's or a plugin's own, by name in order."""
    return {
        name: value
        for name, value in vars(module).items()
        if hasattr(value, SPEC_MARKER) and value.__module__ == module.__name__
    }


def is_marked(value: object) -> bool:
    """Return whether a function or method is marked as the implementation of a hook."""
    return isinstance(getattr(value, MARKER, None), dict)  # a mock has every attribute


def implementations(members: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield (hook, function) of the hook implementations among named members, in order."""
    for name, value in members.items():
        if is_marked(value):
            yield getattr(value, MARKER).get("specname") or name, value


def plugin_faults(module: ModuleType) -> list[str]:
    """Return every fault of a plugin module, one line each."""
    faults = list(_info_faults(getattr(module, "PLUGIN", None)))
    faults += listener_faults(vars(module))
    for name, _ in implementations(vars(module)):
        if name in hook_specs() and not name.startswith(_AT_MODULE):
            faults.append(
                f"{name} is an event and does nothing at module level: put it on the component "
                "that a run selects"
            )
    return faults


def listener_faults(
    members: Mapping[str, Any], own: Mapping[str, Callable[..., Any]] | None = None
) -> list[str]:
    """Return every fault of the hook implementations among named members, one line each.

    Functions that are no hooks are passed over; `own` are hooks that plugins define.
    """
    specs = hook_specs() | dict(own or {})
    faults = [
        f"{name} is not marked: put @hookimpl above it"
        for name, value in members.items()
        if name in specs and callable(value)
        if not (is_marked(value) or hasattr(value, SPEC_MARKER))
    ]
    for name, value in implementations(members):
        if name in specs:
            faults += _signature_faults(name, value, specs[name])
        elif name.startswith(PREFIX):
            close = suggestion(name, specs)
            hint = f"did you mean {close!r}?" if close else "it may need a newer simscaleai-core"
            faults.append(f"unknown hook {name!r}; {hint}")
    return faults


def provider_kind(hook: str) -> str | None:
    """Return the kind of component that a provider hook declares, or None for an event."""
    for kind in KINDS:
        plural = f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"
        if hook == f"{PREFIX}register_{plural}":
            return kind
    return None


def _signature_faults(
    name: str, function: Callable[..., Any], spec: Callable[..., Any]
) -> Iterator[str]:
    is_wrapper = any(getattr(function, MARKER).get(key) for key in ("wrapper", "hookwrapper"))
    is_late = inspect.isgeneratorfunction(function) and not name.startswith(_AT_MODULE)
    if inspect.iscoroutinefunction(function) or (is_late and not is_wrapper):
        yield f"{name} is async or a generator, and would never run: make it a plain function"
    known = [p for p in inspect.signature(spec).parameters if p != "self"]
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
            yield f"{name} takes *args or **kwargs: name the arguments it needs"
        elif parameter.kind is parameter.KEYWORD_ONLY:
            yield f"{name}: the argument {parameter.name!r} is keyword-only; make it positional"
        elif parameter.name not in known:
            offered = ", ".join(known) or "none"
            yield f"{name} has no argument {parameter.name!r}; it offers {offered}"
        elif parameter.default is not parameter.empty:
            yield f"{name}: the argument {parameter.name!r} has a default, which would win; drop it"


def _info_faults(info: object) -> Iterator[str]:
    if not isinstance(info, PluginInfo):
        yield "the module has no PLUGIN = PluginInfo(summary=...)"
        return
    try:
        fits = SpecifierSet(info.requires_api).contains(PLUGIN_API_VERSION)
    except InvalidSpecifier:
        yield f"PLUGIN.requires_api {info.requires_api!r} is not a version range like '>=1.0,<2'"
        return
    if not fits:
        yield f"it needs plugin API {info.requires_api}, this core has {PLUGIN_API_VERSION}"
    for kind in info.selects:
        if kind not in KINDS:
            yield f"PLUGIN.selects has the unknown kind {kind!r}; kinds are {', '.join(KINDS)}"
