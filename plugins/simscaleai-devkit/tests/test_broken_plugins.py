"""A sound plugin passes every check; each broken one fails exactly one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from simscaleai_devkit import PluginSuite
from simscaleai_devkit.suite import name_of, outcomes

from .broken_plugins import BROKEN, write

pytestmark = pytest.mark.slow

COSTLY = {"options_are_light", "targets_leave_process_alone"}
"""Checks with processes of their own: the quick part runs them only where they are to fail."""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of packages that this process and its children find."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("SIMSCALE_PLUGINS", "")
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("kit_plugin_"):
            del sys.modules[name]


def _failed(
    name: str, monkeypatch: pytest.MonkeyPatch, *, leave_out: set[str] = frozenset()
) -> dict[str, str]:
    monkeypatch.setenv("SIMSCALE_PLUGINS", f"kit-{name}")
    checks = tuple(c for c in PluginSuite.checks if name_of(c) not in leave_out)
    given = {"component": f"kit-{name}", "checks": checks}
    found = outcomes(type("Checked", (PluginSuite,), given))
    return {o.check: o.message for o in found if o.status == "failed"}


def test_a_sound_plugin_passes_everything(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(site, "sound")
    assert not _failed("sound", monkeypatch)


@pytest.mark.parametrize("is_deep", [False, pytest.param(True, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("broken", BROKEN, ids=[b[0] for b in BROKEN])
def test_a_broken_plugin_fails_exactly_its_check(
    site: Path, monkeypatch: pytest.MonkeyPatch, broken: tuple[str, ...], is_deep: bool
) -> None:
    name, *change, check, word = broken
    write(site, name, *change)
    failed = _failed(name, monkeypatch, leave_out=set() if is_deep else COSTLY - {check})
    assert list(failed) == [check], failed
    assert word in failed[check]
    assert ": expected " in failed[check]


def test_every_check_has_a_broken_plugin() -> None:
    assert {name_of(c) for c in PluginSuite.checks} == {b[4] for b in BROKEN}
