"""`Host`: finds plugins by metadata, loads them one by one and knows every component."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from types import ModuleType

from simscaleai_core.errors import PluginError
from simscaleai_core.host.discovery import discover
from simscaleai_core.host.loading import check_required, load, record_of
from simscaleai_core.host.lookup import import_hookspecs, resolve
from simscaleai_core.host.records import Component, PluginRecord
from simscaleai_core.host.selection import PluginSelection, select_plugins


class Host:
    """Every plugin that is installed, and every component that the loaded ones declare.

    Plugins are found when the host is made and imported when a component is first asked for.

    Args:
        selection: What the user said about plugins; from the environment alone if None.
        extra: Components besides those of plugins, such as one that is being tested.

    Raises:
        PluginError: If a required plugin is not installed or is kept from loading.
    """

    def __init__(
        self, selection: PluginSelection | None = None, *, extra: Sequence[Component] = ()
    ) -> None:
        self.selection = selection or select_plugins()
        self._extra = extra
        self.records: list[PluginRecord] = discover(self.selection)
        self._components: list[Component] | None = None

    @property
    def components(self) -> list[Component]:
        """Every declared component, after loading every plugin that may load."""
        if self._components is None:
            found = [r for r in self.records if r.state == "discovered"]
            with redirect_stdout(sys.stderr):  # what they print may not mix with results
                self._components = [*(c for record in found for c in load(record)), *self._extra]
            if self.selection.strict:
                self._refuse_faults()
            check_required(self.records, self.selection.required)
        return self._components

    @property
    def required(self) -> list[str]:
        """Names of the plugins that were asked for, under whatever name."""
        return [self.record(name).name for name in self.selection.required]

    def component(self, kind: str, name: str) -> Component:
        """Find one component by short name or full id."""
        return resolve(kind, name, self.components, self.required, self.records)

    def of_kind(self, kind: str) -> list[Component]:
        """Return the components of one kind, sorted by id."""
        return sorted((c for c in self.components if c.kind == kind), key=lambda c: c.id)

    def selected(self, kind: str) -> list[str]:
        """Return the components of a kind that the required plugins select, as full ids."""
        chosen: dict[str, None] = {}
        for record in map(self.record, self.selection.required):
            for of_kind, short in record.info.selects.items() if record.info else ():
                if of_kind == kind:
                    chosen[short if "/" in short else f"{record.name}/{short}"] = None
        return list(chosen)

    def record(self, name: str) -> PluginRecord:
        """Return the record of a plugin, by its name or its distribution's.

        Raises:
            UnknownComponentError: If there is no such plugin.
        """
        self.components  # noqa: B018 - loads
        return record_of(name, self.records)

    def own_hooks(self) -> list[ModuleType]:
        """Return the modules in which loaded plugins specify hooks of their own.

        Raises:
            PluginError: If one cannot be imported, or names a hook that is not its own.
        """
        self.components  # noqa: B018 - loads
        return [import_hookspecs(r) for r in self.records if r.info and r.info.hookspecs]

    def _refuse_faults(self) -> None:
        """Refuse to go on if something is wrong with any plugin, whether it is used or not."""
        for record in self.records:
            if record.reason and record.state != "blocked":
                raise PluginError(
                    f"plugin {record.name!r} ({record.source}) is {record.state}: {record.reason}",
                    plugin=record.name,
                    distribution=record.source,
                )
