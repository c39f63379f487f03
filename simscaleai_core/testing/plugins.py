"""Checks of a plugin as a whole: light to load, honest in what it declares, fit to publish."""

from __future__ import annotations

import functools
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

from attrs import frozen

from simscaleai_core.host import Component, Host, PluginRecord, select_plugins
from simscaleai_core.host.loading import missing_plugin
from simscaleai_core.host.validation import plugin_faults
from simscaleai_core.testing.checks import NotApplicable, checks_in, expect
from simscaleai_core.testing.declarations import DECLARATION_CHECKS
from simscaleai_core.testing.probe import MARKER
from simscaleai_core.testing.subject import scratch
from simscaleai_core.testing.suite import Suite

_BUDGET_MS = 50.0
_PROBES = 3


@frozen(kw_only=True, eq=False)
class PluginSubject:
    """A plugin under test."""

    suite: Any
    """The suite: what its author said."""
    host: Host
    """Every installed plugin."""
    record: PluginRecord
    """What the host knows of this one."""
    folder: Path
    """An empty folder of this check's own."""

    @property
    def components(self) -> list[Component]:
        """What the plugin declares, sorted by kind and name."""
        _ = self.loaded
        mine = [c for c in self.host.components if c.plugin == self.record.name]
        return sorted(mine, key=lambda c: (c.kind, c.id))

    @property
    def module(self) -> Any:
        """The plugin's module, imported here only if another process survived it.

        Raises:
            NotApplicable: If it cannot be imported.
        """
        self.probed()
        return importlib.import_module(self.record.target)

    @property
    def state(self) -> str:
        """What became of the plugin when the host loaded it."""
        _ = self.module, self.host.components
        return self.record.state

    @property
    def loaded(self) -> Any:
        """The plugin's module, free of faults that other checks name.

        Raises:
            NotApplicable: If the host did not load it.
        """
        if self.state != "loaded":
            raise NotApplicable(f"it is {self.state}: see the other checks")
        return self.record.module

    def distribution(self) -> metadata.Distribution:
        """Return the distribution that ships the plugin."""
        return metadata.distribution(self.record.distribution)

    def probed(self, *, least: str = "") -> Mapping[str, Any]:
        """Return what a probe saw of the plugin's module.

        Args:
            least: A number of the report that machines disturb: the smallest of several probes.

        Raises:
            NotApplicable: If the module cannot be imported.
        """
        report: dict[str, Any] = _probe(self.record.target)[self.record.target]
        if report["error"] and not least == "error":
            raise NotApplicable("it cannot be imported: see the check 'imports'")
        return report


def check_imports(subject: PluginSubject) -> None:
    """The module that the entry point names can be imported."""
    error = subject.probed(least="error")["error"]
    expect(
        not error,
        f"importing {subject.record.target}",
        expected="no error",
        found=error,
        remedy="Import only the standard library, attrs and simscaleai_core.plugin at the top.",
    )


def check_import_is_light(subject: PluginSubject) -> None:
    """Importing the plugin imports no heavy package: it happens in every command."""
    heavy = subject.probed()["heavy"]
    expect(
        not heavy,
        f"heavy import at plugin import time of {subject.record.target}",
        expected="none",
        found=", ".join(heavy),
        remedy="Name heavy things by string in the declarations: target='package.module:Class'.",
    )


def check_import_is_quick(subject: PluginSubject) -> None:
    """Importing the plugin costs less than 50 ms of processor time."""
    report = subject.probed()
    if report["heavy"]:
        raise NotApplicable("it imports heavy packages: see the check 'import_is_light'")
    cost_ms = report["cpu_ms"]
    for attempt in range(1, _PROBES):
        if cost_ms >= _BUDGET_MS:
            again = _probe(subject.record.target, attempt=attempt)
            cost_ms = min(cost_ms, again[subject.record.target]["cpu_ms"])
    expect(
        cost_ms < _BUDGET_MS,
        f"processor time of importing {subject.record.target}",
        expected=f"less than {_BUDGET_MS:.0f} ms",
        found=f"{cost_ms:.0f} ms",
        remedy="Compute when a component is used, not when the module is imported.",
    )


def check_import_is_silent(subject: PluginSubject) -> None:
    """Importing the plugin prints nothing: ``--json`` keeps standard output for one object."""
    printed = subject.probed()["printed"]
    expect(
        not printed,
        "standard output at plugin import time",
        expected="nothing",
        found=repr(printed[:80]),
        remedy="Drop the print; use logging in the component.",
    )


def check_import_opens_no_connection(subject: PluginSubject) -> None:
    """Importing the plugin connects to nothing."""
    network = subject.probed()["network"]
    expect(
        not network,
        "connections at plugin import time",
        expected="none",
        found=", ".join(network),
        remedy="Connect when the component starts.",
    )


def check_import_leaves_process_alone(subject: PluginSubject) -> None:
    """Importing the plugin changes neither environment, folder, logging, signals nor threads."""
    report = subject.probed()
    if report["heavy"]:
        raise NotApplicable("it imports heavy packages: see the check 'import_is_light'")
    changes = report["changes"]
    expect(
        not changes,
        "what importing the plugin changed in the process",
        expected="nothing",
        found="; ".join(changes),
        remedy="Do it in the component, and undo it there.",
    )


def check_hooks_are_sound(subject: PluginSubject) -> None:
    """Every hook is marked, known and takes the arguments that it is called with."""
    faults = [f for f in plugin_faults(subject.module) if not _is_about_manifest(f)]
    expect(
        not faults,
        f"the hooks of {subject.record.target}",
        expected="no fault",
        found="; ".join(faults),
        remedy="See `simscale hooks list` for names and arguments.",
    )


def check_manifest(subject: PluginSubject) -> None:
    """`PLUGIN` has a summary of one line and a version range, and selects what the plugin has."""
    faults = [f for f in plugin_faults(subject.module) if _is_about_manifest(f)]
    expect(
        not faults, "the manifest", expected="no fault", found="; ".join(faults),
        remedy="Write PLUGIN = PluginInfo(summary='...').",
    )  # fmt: skip
    info = subject.module.PLUGIN
    expect(
        info.summary.strip() and "\n" not in info.summary,
        "PLUGIN.summary",
        expected="one line of text",
        found=repr(info.summary),
        remedy="Say in one line what the plugin offers.",
    )
    if subject.state != "loaded":
        return
    for kind, name in info.selects.items():
        offered = [c for c in subject.components if c.kind == kind]
        expect(
            any(name in {c.id, c.spec.name} for c in offered),
            f"PLUGIN.selects[{kind!r}]",
            expected=f"one of its own: {', '.join(c.spec.name for c in offered) or 'it has none'}",
            found=repr(name),
            remedy="Name a component that this plugin declares.",
        )


class PluginSuite(Suite):
    """Checks of a plugin, whatever it offers; `component` is the plugin's name."""

    kind: ClassVar[str] = "plugin"
    checks = (*checks_in(globals()), *DECLARATION_CHECKS)

    @classmethod
    def open(cls) -> AbstractContextManager[Any]:
        """Return a context with the plugin's record."""
        return _opened(cls)


@contextmanager
def _opened(suite: type[Suite]) -> Iterator[PluginSubject]:
    with scratch() as folder:
        host, name = Host(select_plugins()), str(suite.component)
        found = [r for r in host.records if name in {r.name, r.distribution}]
        if not found:
            raise missing_plugin(name, [r.name for r in host.records])
        record = found[0]
        yield PluginSubject(suite=suite, host=host, record=record, folder=folder)


def _is_about_manifest(fault: str) -> bool:
    return "PLUGIN" in fault or "plugin API" in fault


@functools.cache
def _probe(*names: str, attempt: int = 0) -> dict[str, Any]:
    """Import modules in a process of their own and return what it saw of each."""
    del attempt  # another number is another process
    path = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(  # noqa: S603 - this interpreter, and names of modules
        [sys.executable, "-m", "simscaleai_core.testing.probe", *names],
        env={**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    _, found, text = done.stdout.rpartition(MARKER)
    if not found:
        reason = f"the process ended with status {done.returncode}"
        blank = {"heavy": [], "cpu_ms": 0.0, "printed": "", "network": [], "changes": []}
        return {name: {**blank, "error": reason} for name in names}
    report: dict[str, Any] = json.loads(text)
    return report
