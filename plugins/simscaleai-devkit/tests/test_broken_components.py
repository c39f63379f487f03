"""Each broken component fails exactly its check, with a message that says what to do."""

from __future__ import annotations

from typing import Any

import pytest
from simscaleai_devkit.suite import Suite, name_of, outcomes

from . import (
    broken_backends,
    broken_datasets,
    broken_envs,
    broken_loggers,
    broken_mechanisms,
    broken_models,
    broken_sources,
)

MODULES = (
    *(broken_backends, broken_datasets, broken_envs, broken_loggers, broken_models),
    broken_sources,
)
TABLES = [(s, sound, m.TABLE) for m in MODULES for s, sound in m.SOUND] + broken_mechanisms.TABLES
BROKEN = [
    *((suite, broken, check, word) for suite, _, table in TABLES for broken, check, word in table),
    *broken_envs.SUITES_THAT_FAIL,
]
SOUND_TOO = [
    *broken_backends.SOUND_TOO,
    *broken_datasets.SOUND_TOO,
    *broken_envs.SOUND_TOO,
    *broken_models.SOUND_TOO,
    *broken_sources.SOUND_TOO,
]
"""Components that are sound though they look like broken ones, and the check that is about it."""
COSTLY = {
    *("crash_loses_nothing", "full_disk_is_reported", "resume_is_exact", "overfits_one_batch"),
    *("workers_give_the_same", "closes_its_files", "failed_run_is_cleaned_up"),
    *("expert_succeeds", "random_actions_fail"),
}
"""Checks that only the nightly part runs where they are not to fail."""


def _name(value: Any) -> str:
    return getattr(value, "__name__", str(value))


def _checked(suite: type[Suite], component: Any, *, leave_out: set[str] = frozenset()) -> Any:
    checks = tuple(c for c in suite.checks if name_of(c) not in leave_out)
    found = outcomes(type("Checked", (suite,), {"component": component, "checks": checks}))
    return found, {o.check: o.message for o in found if o.status == "failed"}


def test_there_are_enough() -> None:
    assert len(BROKEN) > 80
    assert all(len(table) >= 7 for _, _, table in TABLES)


@pytest.mark.parametrize(
    ("suite", "sound"), [t[:2] for t in TABLES], ids=[f"{t[0].__name__}" for t in TABLES]
)
def test_a_sound_component_passes_everything(suite: Any, sound: Any) -> None:
    found, failed = _checked(suite, sound)
    assert not failed
    skipped = {o.check: o.message for o in found if o.status == "skipped"}
    assert all("starts processes" in m for m in skipped.values()), skipped


@pytest.mark.parametrize(
    ("suite", "sound", "check"), SOUND_TOO, ids=[_name(s) for _, s, _ in SOUND_TOO]
)
def test_what_is_sound_in_its_own_way_passes(suite: Any, sound: Any, check: str) -> None:
    given = tuple(c for c in suite.checks if name_of(c) == check)
    found = outcomes(type("Checked", (suite,), {"component": sound, "checks": given}))
    assert [(o.check, o.status, o.message) for o in found] == [(check, "passed", "")]


@pytest.mark.parametrize("is_whole", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("suite", "broken", "check", "word"), BROKEN, ids=[_name(b) for _, b, _, _ in BROKEN]
)
def test_a_broken_component_fails_exactly_its_check(
    suite: Any, broken: Any, check: str, word: str, is_whole: bool
) -> None:
    """The quick part runs that check only."""
    others = COSTLY if is_whole else {name_of(c) for c in suite.checks}
    _, failed = _checked(suite, broken, leave_out=others - {check})
    assert list(failed) == [check], failed
    assert word in failed[check]
    assert ": expected " in failed[check]
    assert failed[check].rstrip()[-1] in ".:)", "no remedy at the end"


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("suite", "broken", "check"), [b[:3] for b in BROKEN], ids=[_name(b) for _, b, _, _ in BROKEN]
)
def test_nor_do_the_costly_checks_fail(suite: Any, broken: Any, check: str) -> None:
    _, failed = _checked(suite, broken, leave_out=set())
    assert list(failed) == [check], failed


def test_every_check_has_a_broken_component() -> None:
    missed = {
        f"{suite.kind}: {name_of(c)}"
        for suite, _, table in TABLES
        for c in suite.checks
        if name_of(c) not in {check for _, check, _ in table}
    }
    assert missed == {
        "env: expert_succeeds",  # the expert is broken, not the environment: SUITES_THAT_FAIL
        "env: variations_are_factors",  # SUITES_THAT_FAIL as well
        "dataset: spawned_workers_give_the_same",
        "source: fresh_process_reads_the_same",
        "model: two_ranks_agree",
        "strategy: two_ranks_communicate",  # in test_two_ranks.py
        "strategy: two_ranks_train_as_one",
    }
