"""`Suite`: the checks of one kind, as a pytest class of three lines and for the command line."""

from __future__ import annotations

import difflib
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from attrs import frozen

from simscaleai_devkit.checks import (
    Check,
    CheckFailed,
    NotApplicable,
    is_slow,
    name_of,
    text_of,
)
from simscaleai_devkit.subject import Subject, component_subject


class Suite:
    """The checks of one kind of component; a subclass names the component.

    Each check becomes one pytest item. pytest is imported only when a test runs.

    Example:
        >>> from simscaleai_devkit import LoggerSuite
        >>> class TestMine(LoggerSuite):
        ...     component = "builtin/jsonl"
        >>> callable(TestMine.test_is_silent_on_stdout)
        True
    """

    kind: ClassVar[str] = ""
    """Kind of component."""
    checks: ClassVar[tuple[Check, ...]] = ()
    """The checks, in order."""
    component: ClassVar[Any] = None
    """Id of the component, such as ``"my-policy/my-policy"``; or the class itself."""
    options: ClassVar[Mapping[str, Any]] = {}
    """Options to build it with; small ones keep the checks quick."""
    options_class: ClassVar[type | None] = None
    """Options class, if `component` is a class and not an id."""
    config: ClassVar[Mapping[str, Any]] = {}
    """Fields of the run's configuration that it needs."""
    unsupported: ClassVar[Mapping[str, str]] = {}
    """Checks that this component does not support: name to reason, reported as skipped."""
    is_generic: ClassVar[bool] = False
    """Whether nobody chose options: a component that needs some is then skipped, not failed."""

    def __init_subclass__(cls) -> None:
        """Check what was declared, and make one test per check.

        Raises:
            TypeError: If `unsupported` names no check or gives no reason.
        """
        super().__init_subclass__()
        names = [name_of(check) for check in cls.checks]
        for name, reason in cls.unsupported.items():
            if name not in names:
                close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
                hint = f"Did you mean {close[0]!r}?" if close else f"Checks: {', '.join(names)}."
                raise TypeError(f"{cls.__name__}.unsupported: unknown check {name!r}. {hint}")
            if not (isinstance(reason, str) and reason.strip()):
                raise TypeError(f"{cls.__name__}.unsupported[{name!r}]: expected a reason as text")
        if cls.component is not None:
            for check in cls.checks:
                if not hasattr(cls, f"test_{name_of(check)}"):
                    setattr(cls, f"test_{name_of(check)}", _as_test(check))

    @classmethod
    def open(cls) -> AbstractContextManager[Subject]:
        """Return a context with what the checks examine."""
        return component_subject(cls)


def _as_test(check: Check) -> Any:
    def test(self: Suite) -> None:
        __tracebackhide__ = True
        import pytest

        wrong = skipped = ""
        try:
            run_check(type(self), check)
        except NotApplicable as reason:
            skipped = str(reason)
        except CheckFailed as error:
            wrong = str(error)
        if wrong:
            pytest.fail(wrong, pytrace=False)
        if skipped:
            pytest.skip(skipped)

    test.__name__ = f"test_{name_of(check)}"
    test.__doc__ = check.__doc__
    if is_slow(check) and "pytest" in sys.modules:
        import pytest

        return pytest.mark.slow(test)
    return test


def run_check(suite: type[Suite], check: Check) -> None:
    """Run one check of a suite.

    Args:
        suite: The suite, with its component.
        check: One of its checks.

    Raises:
        NotApplicable: If it is declared unsupported, or does not apply to this component.
        CheckFailed: If the component breaks its contract.
    """
    reason = suite.unsupported.get(name_of(check))
    if reason:
        raise NotApplicable(reason)
    with suite.open() as subject:
        check(subject)


@frozen(kw_only=True)
class Outcome:
    """The result of one check."""

    suite: str
    """Name of the suite's kind."""
    component: str
    """Id of the component, or name of the plugin."""
    check: str
    """Name of the check."""
    status: str
    """``"passed"``, ``"failed"`` or ``"skipped"``."""
    message: str = ""
    """Why it failed or was skipped."""
    seconds: float = 0.0
    """How long it took [s]."""


def outcomes(suite: type[Suite], *, deep: bool = False) -> list[Outcome]:
    """Run every check of a suite, also after one that failed.

    Args:
        suite: The suite, with its component.
        deep: Whether to run the checks that start processes.

    Returns:
        One outcome per check.
    """
    return [_outcome(suite, check, deep=deep) for check in suite.checks]


def _outcome(suite: type[Suite], check: Check, *, deep: bool) -> Outcome:
    started = time.perf_counter()
    status, message = "passed", ""
    try:
        if is_slow(check) and not deep:
            raise NotApplicable("starts processes; run it with --deep")
        run_check(suite, check)
    except NotApplicable as reason:
        status, message = "skipped", str(reason)
    except CheckFailed as error:
        status, message = "failed", str(error)
    except Exception as error:  # noqa: BLE001 - a component may raise anything
        status, message = "failed", f"the check ended with {text_of(error)}"
    given = suite.component
    return Outcome(
        suite=suite.kind,
        component=given if isinstance(given, str) else getattr(given, "__name__", str(given)),
        check=name_of(check),
        status=status,
        message=message,
        seconds=time.perf_counter() - started,
    )
