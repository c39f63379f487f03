"""What the host knows of each plugin, whatever became of it, and of each component."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType

from attrs import define, field, frozen

from simscaleai_core.errors import SimScaleError
from simscaleai_core.host.selection import BUILTIN
from simscaleai_core.plugin import ComponentSpec, PluginInfo

_NOTE = "raised in the code of plugin"


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
    """``discovered``, ``blocked``, ``incompatible``, ``failed`` or ``loaded``."""
    reason: str = ""
    """Why it is not loaded, if it is not."""
    misfit: tuple[str, str] = ("", "")
    """Range of versions, of the core or of its plugin API, that it needs, and what there is."""
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


@contextmanager
def naming_origin(components: Iterable[Component]) -> Iterator[None]:
    """Add a note to an exception of the body: which plugin's package raised it."""
    try:
        yield
    except Exception as error:
        is_clear = isinstance(error, SimScaleError)  # it says itself what to do
        owner = None if is_clear else _innermost_owner(error, components)
        if owner is not None and not any(_NOTE in n for n in getattr(error, "__notes__", ())):
            error.add_note(f"{_NOTE} {owner.plugin!r} ({owner.distribution})")
        raise


def _innermost_owner(error: Exception, components: Iterable[Component]) -> Component | None:
    packages = {_package(c.spec.target): c for c in components if c.plugin != BUILTIN}
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    names = (_package(str(frame.f_globals.get("__name__", ""))) for frame in reversed(frames))
    return next((packages[name] for name in names if name in packages), None)


def _package(target: str) -> str:
    return target.partition(":")[0].partition(".")[0]
