"""Importing what a plugin declares, afresh and in a child process."""

from __future__ import annotations

import contextlib
import importlib
import operator
import sys
from typing import Any

from simscaleai_core.plugin import AdapterSpec, EnvSpec
from simscaleai_devkit.checks import left_to, text_of
from simscaleai_devkit.plugins.subject import PluginSubject
from simscaleai_devkit.support.children import in_child
from simscaleai_devkit.support.process import captured_stdout, process_state, state_changes


def targets_of(subject: PluginSubject) -> list[str]:
    """Return everything that the plugin's declarations name by string."""
    found: set[str | None] = set()
    for component in subject.components:
        spec = component.spec
        found |= {spec.target, spec.options}
        found |= {spec.expert, spec.image_options} if isinstance(spec, EnvSpec) else set()
        found |= {spec.merge} if isinstance(spec, AdapterSpec) else set()
    return sorted(target for target in found if target)


def resolved(target: str) -> Any:
    """Import what a string names, for a check of something else."""
    with left_to("targets_can_be_imported"):
        return _imported(target)


def import_report(subject: PluginSubject) -> dict[str, Any]:
    """Import every target afresh in a child process, and report what that changed.

    Modules of other packages are imported first: their side effects are not the plugin's.

    Args:
        subject: The plugin under test.

    Returns:
        ``errors`` by target, ``changes`` of the process and what was ``printed``.
    """
    targets, package = targets_of(subject), subject.module_name.partition(".")[0]
    _, others = in_child(lambda: _others(targets, package))
    others = others if isinstance(others, list) else []
    status, found = in_child(lambda: _imported_afresh(targets, package, others))
    if not found or "errors" not in found:
        reason = found or f"the process ended with status {status}"
        return {"errors": dict.fromkeys(targets, str(reason)), "changes": [], "printed": ""}
    report: dict[str, Any] = found
    return report


def _others(targets: list[str], package: str) -> list[str]:
    """Return the modules of others that the targets import, in the order of their import."""
    before = set(sys.modules)
    _imported_afresh(targets, package, [])
    return [n for n in sys.modules if n not in before and n.partition(".")[0] != package]


def _imported_afresh(targets: list[str], package: str, others: list[str]) -> dict[str, Any]:
    for name in others:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    for name in [n for n in sys.modules if n.partition(".")[0] == package]:
        del sys.modules[name]
    before = process_state()
    with captured_stdout() as printed:
        errors = {target: error for target in targets if (error := _fault_of(target))}
    changes = state_changes(before, process_state())
    return {"errors": errors, "changes": changes, "printed": printed()}


def _imported(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return operator.attrgetter(attribute)(importlib.import_module(module))


def _fault_of(target: str) -> str:
    try:
        value = _imported(target)
    except BaseException as error:  # noqa: BLE001 - also SystemExit
        return text_of(error)
    return "" if callable(value) else f"{value!r:.60}, which cannot be called"
