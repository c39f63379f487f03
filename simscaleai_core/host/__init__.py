"""The plugin host: the only package that drives a pluggy manager.

`Host` is the facade; `compile_events` compiles the listeners of a run. Names are imported when they
are first used, so that ``simscale --help`` needs little of it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simscaleai_core.host.entry_points import command_offers, core_version
    from simscaleai_core.host.events import compile_events
    from simscaleai_core.host.facade import Host
    from simscaleai_core.host.origin import naming_origin
    from simscaleai_core.host.records import Component, PluginRecord
    from simscaleai_core.host.registry import import_target
    from simscaleai_core.host.selection import PluginSelection, select_plugins

_HOMES = {
    "Component": "records",
    "Host": "facade",
    "PluginRecord": "records",
    "PluginSelection": "selection",
    "command_offers": "entry_points",
    "compile_events": "events",
    "core_version": "entry_points",
    "import_target": "registry",
    "naming_origin": "origin",
    "select_plugins": "selection",
}

__all__ = [
    "Component",
    "Host",
    "PluginRecord",
    "PluginSelection",
    "command_offers",
    "compile_events",
    "core_version",
    "import_target",
    "naming_origin",
    "select_plugins",
]


def __getattr__(name: str) -> Any:
    """Return a public name, imported from its home when it is first used.

    Raises:
        AttributeError: If there is no such name.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
