"""What a check is, and how it says what is wrong.

A check is a function ``check_x(subject) -> None`` that raises `CheckFailed`. pytest and
``simscale plugins check`` run the same functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Check = Callable[[Any], None]

_PREFIX = "check_"
_SLOW = "simscale_is_slow"
_LONGEST = 240


class CheckFailed(AssertionError):  # noqa: N818 - it reads as what it is in a test report
    """A component breaks its contract; the message says what was expected and what to do."""


class NotApplicable(Exception):  # noqa: N818 - nothing went wrong
    """A check that cannot say anything of this component; the message is the reason."""


def expect(holds: object, fact: str, *, expected: object, found: object, remedy: str) -> None:
    """Fail a check unless something holds.

    Args:
        holds: What must be true.
        fact: What is wrong if it is not.
        expected: What was expected.
        found: What was found.
        remedy: One thing to do, a sentence.

    Raises:
        CheckFailed: If it does not hold.

    Example:
        >>> expect(1 == 2, "the count", expected=2, found=1, remedy="Count again.")
        Traceback (most recent call last):
        simscaleai_core.testing.checks.CheckFailed: the count: expected 2, got 1. Count again.
    """
    if not holds:
        raise CheckFailed(f"{fact}: expected {expected}, got {found}. {remedy}")


def slow(check: Check) -> Check:
    """Mark a check that starts processes: ``pytest -m slow``, ``plugins check --deep``."""
    setattr(check, _SLOW, True)
    return check


def is_slow(check: Check) -> bool:
    """Return whether a check starts processes."""
    return bool(getattr(check, _SLOW, False))


def name_of(check: Check) -> str:
    """Return the name that `unsupported` and reports use."""
    return check.__name__.removeprefix(_PREFIX)


def checks_in(namespace: Mapping[str, Any]) -> tuple[Check, ...]:
    """Return the checks that a module defines, in order."""
    home = namespace["__name__"]
    found: Iterable[Any] = (v for n, v in namespace.items() if n.startswith(_PREFIX))
    return tuple(c for c in found if c.__module__ == home)


def text_of(error: BaseException) -> str:
    """Return an exception as one line that is not too long, without the full stop at its end."""
    text = " ".join(str(error).split()).rstrip(".")
    shown = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return f"{type(error).__name__}: {shown}" if shown else type(error).__name__
