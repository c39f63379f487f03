"""What the host knows of each plugin, whatever became of it."""

from __future__ import annotations

from types import ModuleType

from attrs import define, field, frozen

from simscaleai_core.plugin import ComponentSpec, PluginInfo

STATES = ("discovered", "blocked", "duplicate", "incompatible", "failed", "loaded")
"""Where a plugin's life can have led, in order."""


@define(kw_only=True)
class PluginRecord:
    """One plugin and its state."""

    name: str
    """Entry-point name, or the distribution's if another plugin has that name."""
    distribution: str
    """Name of the distribution that ships it, or what ``--plugin`` said."""
    version: str
    """Version of that distribution; empty for a plugin that is being written."""
    target: str
    """Module that the entry point names."""
    state: str = "discovered"
    """One of `STATES`."""
    reason: str = ""
    """Why it is not loaded, if it is not."""
    faults: tuple[str, ...] = ()
    """Every fault found, one line each."""
    info: PluginInfo | None = None
    """What the plugin says of itself, once loaded."""
    module: ModuleType | None = field(default=None, repr=False)
    """The imported module, once loaded."""
    import_ms: float = 0.0
    """Time that its import took [ms]."""
    heavy: tuple[str, ...] = ()
    """Heavy modules that its import brought in."""

    @property
    def source(self) -> str:
        """Distribution and version, as messages show them."""
        return f"{self.distribution} {self.version}".rstrip()


@frozen(kw_only=True)
class Component:
    """One component and the plugin that offers it."""

    plugin: str
    """Name of the plugin."""
    distribution: str
    """Distribution and version that ship it."""
    spec: ComponentSpec
    """The declaration."""

    @property
    def id(self) -> str:
        """Full name, ``plugin/name``."""
        return f"{self.plugin}/{self.spec.name}"

    @property
    def kind(self) -> str:
        """Kind, such as ``"model"``."""
        return self.spec.kind
