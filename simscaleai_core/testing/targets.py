"""Importing what a plugin declares, afresh and in a child."""

from __future__ import annotations

import contextlib
import importlib
import sys
from typing import Any

from simscaleai_core.plugin import EnvSpec
from simscaleai_core.testing.checks import NotApplicable, text_of
from simscaleai_core.testing.children import in_child
from simscaleai_core.testing.process import captured_stdout, process_state, state_changes


def places_of(subject: Any) -> list[str]:
    """Return everything that the plugin's declarations name by string."""
    found = []
    for component in subject.components:
        spec = component.spec
        found += [spec.target, spec.options]
        found += [spec.expert] if isinstance(spec, EnvSpec) else []
    return sorted({place for place in found if place})


def resolved(place: str) -> Any:
    """Import what a string names, for a check of something else."""
    module, _, attribute = place.partition(":")
    try:
        value: Any = importlib.import_module(module)
        for part in attribute.split("."):
            value = getattr(value, part)
    except Exception as error:
        raise NotApplicable("see the check 'targets_can_be_imported'") from error
    return value


def import_report(subject: Any) -> dict[str, Any]:
    """Import every target afresh in a child, and say what that changed.

    What it imports of others is imported first: their doings are not the plugin's.

    Args:
        subject: The plugin under test.

    Returns:
        ``errors`` by target, ``changes`` of the process and what was ``printed``.
    """
    places, package = places_of(subject), subject.record.target.partition(".")[0]
    _, others = in_child(lambda: _others(places, package))
    others = others if isinstance(others, list) else []
    status, found = in_child(lambda: _imported_afresh(places, package, others))
    if not found or "errors" not in found:
        reason = found or f"the process ended with status {status}"
        return {"errors": dict.fromkeys(places, str(reason)), "changes": [], "printed": ""}
    report: dict[str, Any] = found
    return report


def _others(places: list[str], package: str) -> list[str]:
    """Return the modules of others that the targets import, in the order of their import."""
    before = set(sys.modules)
    _imported_afresh(places, package, [])
    return [n for n in sys.modules if n not in before and n.partition(".")[0] != package]


def _imported_afresh(places: list[str], package: str, others: list[str]) -> dict[str, Any]:
    for name in others:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    for name in [n for n in sys.modules if n.partition(".")[0] == package]:
        del sys.modules[name]
    before = process_state()
    with captured_stdout() as printed:
        errors = {place: error for place in places if (error := _fault_of(place))}
    changes = state_changes(before, process_state())
    return {"errors": errors, "changes": changes, "printed": printed()}


def _fault_of(place: str) -> str:
    module, _, attribute = place.partition(":")
    try:
        value: Any = importlib.import_module(module)
        for part in attribute.split("."):
            value = getattr(value, part)
    except BaseException as error:  # noqa: BLE001 - also SystemExit
        return text_of(error)
    return "" if callable(value) else f"{value!r:.60}, which cannot be called"
