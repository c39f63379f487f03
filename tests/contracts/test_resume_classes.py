"""What becomes of each option of a component that training depends on when a run is resumed.

A new option fails here until someone decides: ``refused`` (the default), ``reported`` or
``harmless``. ``python tests/contracts/test_resume_classes.py`` writes the table again; look at the
difference before you commit it.
"""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest

from simscaleai_core.host.facade import Host
from simscaleai_core.host.lookup import import_target

TABLE = Path(__file__).with_name("resume_classes.json")
TRAINING_KINDS = ("model", "dataset", "precision", "strategy", "extension")
"""What training depends on; components of other kinds watch it, or write down what it does."""
CLASSES = {"refused", "reported", "harmless"}


def found() -> dict[str, dict[str, str]]:
    """Return the class of every option of every installed component."""
    return {
        component.id: {
            field.name: field.metadata.get("on_resume", "refused")
            for field in attrs.fields(import_target(component, component.spec.options))
        }
        for component in sorted(Host().components, key=lambda c: c.id)
        if component.kind in TRAINING_KINDS and component.spec.options
    }


def test_somebody_has_decided_about_every_option() -> None:
    assert found() == json.loads(TABLE.read_text())


def test_classes_are_known() -> None:
    assert {kind for options in found().values() for kind in options.values()} == CLASSES


@pytest.mark.parametrize("kind", TRAINING_KINDS)
def test_every_kind_is_covered(kind: str) -> None:
    assert any(c.kind == kind for c in Host().components)


if __name__ == "__main__":
    TABLE.write_text(json.dumps(found(), indent=1) + "\n")
