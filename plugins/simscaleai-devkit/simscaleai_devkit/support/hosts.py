"""A host that knows components which no installed plugin declares."""

from __future__ import annotations

from simscaleai_core.host.facade import Host
from simscaleai_core.host.records import Component
from simscaleai_core.host.selection import select_plugins
from simscaleai_core.plugin import ComponentSpec


def host_with(*specs: ComponentSpec, plugin: str = "kit", installed: bool = False) -> Host:
    """Return a host that knows the core's components and these, as if a plugin declared them.

    Args:
        specs: Declarations of the components.
        plugin: Name of that plugin.
        installed: Whether to load the installed plugins too.

    Returns:
        The host.

    Example:
        >>> from simscaleai_core.plugin import ModelSpec
        >>> tiny = ModelSpec(name="tiny", target="simscaleai_devkit.support.policies:TinyPolicy")
        >>> host_with(tiny).component("model", "tiny").id
        'kit/tiny'
    """
    ours = [Component(plugin=plugin, distribution=f"{plugin} 0", spec=spec) for spec in specs]
    return Host(None if installed else select_plugins(none=True, environ={}), extra=ours)
