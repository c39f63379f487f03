"""Checks of how a plugin is imported and loaded; and the suite with all checks of plugins."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar

from simscaleai_core.host.facade import Host
from simscaleai_core.host.loading import record_of
from simscaleai_core.host.selection import is_file, select_plugins
from simscaleai_core.host.validation import plugin_faults
from simscaleai_devkit.checks import NotApplicable, checks_in, expect, expect_none
from simscaleai_devkit.plugins.declarations import DECLARATION_CHECKS
from simscaleai_devkit.plugins.subject import PluginSubject
from simscaleai_devkit.subject import scratch
from simscaleai_devkit.suite import Suite

_BUDGET_MS = 50.0
_PROBES = 3


def check_imports(subject: PluginSubject) -> None:
    """The module that the entry point names can be imported."""
    error = subject.probed()["error"]
    remedy = "Import only the standard library, attrs and simscaleai_core.plugin at the top."
    errors = [error] if error else []
    expect_none(errors, f"errors in importing {subject.record.target}", remedy=remedy)


def check_import_is_light(subject: PluginSubject) -> None:
    """Importing the plugin imports no heavy package: it happens in every command."""
    heavy = subject.require_importable()["heavy"]
    if heavy:
        subject.require_package()
    remedy = "Name heavy things by string in the declarations: target='package.module:Class'."
    fact = f"heavy imports at plugin import time of {subject.record.target}"
    expect_none(heavy, fact, remedy=remedy)


def check_import_is_quick(subject: PluginSubject) -> None:
    """Importing the plugin costs less than 50 ms of processor time."""
    cost_ms = _light_report(subject)["cpu_ms"]
    for attempt in range(1, _PROBES):
        if cost_ms >= _BUDGET_MS:
            cost_ms = min(cost_ms, subject.probed(attempt)["cpu_ms"])
    expect(
        cost_ms < _BUDGET_MS,
        f"processor time of importing {subject.record.target}",
        expected=f"less than {_BUDGET_MS:.0f} ms",
        found=f"{cost_ms:.0f} ms",
        remedy="Compute when a component is used, not when the module is imported.",
    )


def check_import_is_silent(subject: PluginSubject) -> None:
    """Importing the plugin prints nothing: ``--json`` keeps standard output for one object."""
    printed = subject.require_importable()["printed"]
    texts = [repr(printed[:80])] if printed else []
    remedy = "Drop the print; use logging in the component."
    fact = "standard output at plugin import time"
    expect_none(texts, fact, expected="nothing", remedy=remedy)


def check_import_opens_no_connection(subject: PluginSubject) -> None:
    """Importing the plugin connects to nothing."""
    network = subject.require_importable()["network"]
    fact = "connections at plugin import time"
    expect_none(network, fact, remedy="Connect when the component starts.")


def check_import_leaves_process_alone(subject: PluginSubject) -> None:
    """Importing the plugin changes neither environment, folder, logging, signals nor threads."""
    changes = _light_report(subject)["changes"]
    fact = "what importing the plugin changed in the process"
    remedy = "Do it in the component, and undo it there."
    expect_none(changes, fact, expected="nothing", remedy=remedy)


def check_hooks_are_sound(subject: PluginSubject) -> None:
    """Every hook is marked, known and takes the arguments that it is called with."""
    faults = [f for f in plugin_faults(subject.module()) if not _is_about_manifest(f)]
    remedy = "See `simscale hooks list` for names and arguments."
    expect_none(faults, f"faults in the hooks of {subject.record.target}", remedy=remedy)


def check_manifest(subject: PluginSubject) -> None:
    """`PLUGIN` has a summary of one line and a version range, and selects what the plugin has."""
    module = subject.module()
    faults = [f for f in plugin_faults(module) if _is_about_manifest(f)]
    remedy = "Write PLUGIN = PluginInfo(summary='...')."
    expect_none(faults, "faults in the manifest", remedy=remedy)
    info = module.PLUGIN
    expect(
        info.summary.strip() and "\n" not in info.summary,
        "PLUGIN.summary",
        expected="one line of text",
        found=repr(info.summary),
        remedy="Describe in one line what the plugin offers.",
    )
    if subject.state() != "loaded":
        return
    for kind, name in info.selects.items():
        offered = [c for c in subject.components if c.kind == kind]
        names = ", ".join(c.spec.name for c in offered) or "it has none"
        expect(
            any(name in {c.id, c.spec.name} for c in offered),
            f"PLUGIN.selects[{kind!r}]",
            expected=f"one of its own: {names}",
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
        record = record_of(name, host.records)
        if is_file(record.target):
            sys.path.append(str(Path(record.target).resolve().parent))  # as the host does
        yield PluginSubject(suite=suite, host=host, record=record, folder=folder)


def _light_report(subject: PluginSubject) -> Mapping[str, Any]:
    """Return what another process reports, if the module imports nothing heavy."""
    report = subject.require_importable()
    if report["heavy"]:
        raise NotApplicable("it imports heavy packages: see the check 'import_is_light'")
    return report


def _is_about_manifest(fault: str) -> bool:
    return "PLUGIN" in fault or "plugin API" in fault
