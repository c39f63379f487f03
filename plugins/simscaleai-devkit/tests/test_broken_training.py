"""What a run is made of: a broken one fails exactly its check, and all of the core's are sound."""

from __future__ import annotations

from typing import Any

import pytest
from simscaleai_devkit import AdapterSuite, TrainStepSuite, TransformSuite
from simscaleai_devkit.suite import Suite, name_of, outcomes

from simscaleai_core.errors import ConfigError

from . import broken_data, broken_training

TABLES = broken_training.TABLES + broken_data.TABLES
BROKEN = [(s, broken, check, word) for s, _, table in TABLES for broken, check, word in table]
SOUND = [*(t[:2] for t in TABLES), *broken_training.SOUND_TOO, *broken_data.SOUND_TOO]
COSTLY = {
    *("resume_is_exact", "goes_on_to_more_steps", "workers_give_the_same", "checkpoint_is_enough"),
    *("merges", "skipped_update_changes_nothing", "state_is_restored", "ranks_agree"),
}
"""Checks that the quick part leaves out."""
NEEDS_PROCESSES = {"two_ranks_agree", "same_in_another_process"}
ONCE = {(s.kind, check): broken for s, broken, check, _ in reversed(BROKEN)}
"""The first broken component of each check."""


def _name(value: Any) -> str:
    return getattr(value, "__name__", str(value))


def _given(component: Any) -> dict[str, Any]:
    return broken_data.GIVEN.get(component, {})


def _checked(suite: type[Suite], component: Any, checks: Any) -> Any:
    given = {"component": component, "checks": tuple(checks), **_given(component)}
    return outcomes(type("Checked", (suite,), given))


def _expect_failure(found: Any, check: str, word: str) -> None:
    failed = {o.check: o.message for o in found if o.status == "failed"}
    assert list(failed) == [check], failed
    assert word in failed[check]
    assert ": expected " in failed[check]
    assert failed[check].rstrip()[-1] in ".:)", "no remedy at the end"


@pytest.mark.parametrize(
    ("suite", "broken", "check", "word"),
    [b for b in BROKEN if b[2] not in COSTLY and ONCE[b[0].kind, b[2]] is b[1]],
    ids=lambda value: _name(value) if isinstance(value, type) else "",
)
def test_a_broken_one_fails_its_check(suite: Any, broken: Any, check: str, word: str) -> None:
    checks = [c for c in suite.checks if name_of(c) == check]
    _expect_failure(_checked(suite, broken, checks), check, word)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suite", "broken", "check", "word"), BROKEN, ids=[_name(b[1]) for b in BROKEN]
)
def test_no_other_check_fails(suite: Any, broken: Any, check: str, word: str) -> None:
    _expect_failure(_checked(suite, broken, suite.checks), check, word)


@pytest.mark.slow
@pytest.mark.parametrize(("suite", "sound"), SOUND, ids=[f"{s.kind}-{_name(c)}" for s, c in SOUND])
def test_a_sound_one_passes_everything(suite: Any, sound: Any) -> None:
    found = _checked(suite, sound, suite.checks)
    assert not [(o.check, o.message) for o in found if o.status == "failed"]
    assert len([o for o in found if o.status == "passed"]) >= len(suite.checks) - 3


def test_every_check_has_a_broken_one() -> None:
    checks = {(s.kind, name_of(c)) for s, _, _ in TABLES for c in s.checks}
    assert {c for c in checks - set(ONCE) if c[1] not in NEEDS_PROCESSES} == set()


class NeedsACritic:
    def __init__(self, config: Any, options: None = None) -> None: ...

    def update(self, run: Any, batch: Any) -> Any:
        return run.policy.critic(batch)


def needs_a_head(policy: Any, options: None) -> Any:
    raise ConfigError("the policy has no head: expected one, got none. Name it.")


def needs_forces(sample: Any, key: int) -> Any:
    return {**sample, "forces": sample["observations"]["forces"] * key}


@pytest.mark.parametrize(
    ("suite", "component"),
    [
        (TrainStepSuite, NeedsACritic),
        (AdapterSuite, needs_a_head),
        (TransformSuite, lambda *_: needs_forces),
    ],
)
def test_what_needs_a_policy_or_data_of_its_own_is_passed_over_without_settings(
    suite: Any, component: Any
) -> None:
    (first, *_) = suite.checks
    for is_generic, wanted in ((True, "skipped"), (False, "failed")):
        given = {"component": component, "checks": (first,), "is_generic": is_generic}
        (found,) = outcomes(type("Checked", (suite,), given))
        assert found.status == wanted
        assert not is_generic or "without settings" in found.message
