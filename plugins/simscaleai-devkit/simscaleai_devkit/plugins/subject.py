"""What a check of a plugin examines: its record, its module, and what another process reports."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from attrs import frozen

from simscaleai_core.host.facade import Host
from simscaleai_core.host.records import Component, PluginRecord
from simscaleai_core.host.selection import is_file, is_unpublished
from simscaleai_devkit.checks import NotApplicable
from simscaleai_devkit.plugins.probe import probe_report


@frozen(kw_only=True, eq=False)
class PluginSubject:
    """A plugin under test."""

    suite: Any
    """The suite, with the settings of its author."""
    host: Host
    """Every installed plugin."""
    record: PluginRecord
    """What the host knows of this one."""
    folder: Path
    """An empty folder of this check's own."""

    @property
    def components(self) -> list[Component]:
        """What the plugin declares, sorted by kind and name."""
        self.require_loaded()
        mine = [c for c in self.host.components if c.plugin == self.record.name]
        return sorted(mine, key=lambda c: (c.kind, c.id))

    @property
    def module_name(self) -> str:
        """Name to import the plugin's module by, also if it is given as a file."""
        target = self.record.target
        return Path(target).stem if is_file(target) else target

    def module(self) -> Any:
        """Return the plugin's module, imported here only if another process survived it."""
        self.require_importable()
        return importlib.import_module(self.module_name)

    def state(self) -> str:
        """Have the host load the plugin, and return the state that it has then."""
        self.require_importable()
        self.host.components  # noqa: B018 - loads every plugin
        return self.record.state

    def require_loaded(self) -> None:
        """Skip the check unless the host loads the plugin.

        Raises:
            NotApplicable: If the host refuses it.
        """
        state = self.state()
        if state != "loaded":
            raise NotApplicable(f"it is {state}: see the other checks")

    def require_package(self) -> None:
        """Skip the check for a plugin in a single file, which may hold its components too.

        Raises:
            NotApplicable: If it is one.
        """
        if is_file(self.record.target):
            raise NotApplicable("it is a single file, with its components in it")

    def distribution(self) -> metadata.Distribution:
        """Return the distribution that ships the plugin.

        Raises:
            NotApplicable: If the plugin is a file or a module that is being written.
        """
        if is_unpublished(self.record.distribution):
            raise NotApplicable("it is being written and has no distribution yet")
        return metadata.distribution(self.record.distribution)

    def probed(self, attempt: int = 0) -> Mapping[str, Any]:
        """Return what another process reports of importing the plugin's module.

        Args:
            attempt: Another number measures again.
        """
        return probe_report(self.module_name, attempt=attempt)[self.module_name]

    def require_importable(self) -> Mapping[str, Any]:
        """Return what another process reports; skip the check if it cannot import the module.

        Returns:
            The report.

        Raises:
            NotApplicable: If the module cannot be imported.
        """
        report = self.probed()
        if report["error"]:
            raise NotApplicable("it cannot be imported: see the check 'imports'")
        return report
