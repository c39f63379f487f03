"""What a check is, and how it reports what is wrong.

A check is a function ``check_x(subject) -> None`` that raises `CheckFailed`. pytest and
``simscale plugins check`` run the same functions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

Check = Callable[[Any], None]

_PREFIX = "check_"
_SLOW = "simscale_is_slow"
_MAX_TEXT = 240
_MAX_ITEMS = 5


class CheckFailed(AssertionError):  # noqa: N818 - the name that test reports show
    """A component breaks its contract; the message says what was expected and what to do."""


class NotApplicable(Exception):  # noqa: N818 - nothing went wrong
    """The check does not apply to this component; the message is the reason."""


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
        simscaleai_devkit.checks.CheckFailed: the count: expected 2, got 1. Count again.
    """
    if not holds:
        raise CheckFailed(f"{fact}: expected {expected}, got {found}. {remedy}")


def expect_none(
    found: Collection[object], fact: str, *, expected: str = "none", remedy: str
) -> None:
    """Fail a check unless a list of what is wrong is empty.

    Args:
        found: What is wrong; the first few are named.
        fact: What they are.
        expected: What was expected.
        remedy: One thing to do, a sentence.

    Raises:
        CheckFailed: If there is anything in the list.
    """
    if found:
        named = "; ".join(str(item) for item in list(found)[:_MAX_ITEMS])
        expect(False, fact, expected=expected, found=named, remedy=remedy)


@contextmanager
def must_work(fact: str, *, expected: str = "to work", remedy: str) -> Iterator[None]:
    """Fail a check if the body raises.

    Args:
        fact: What the body does.
        expected: What was expected of it.
        remedy: One thing to do, a sentence.

    Raises:
        CheckFailed: If the body raises; the error is named.
        NotApplicable: If the body raises that.
    """
    try:
        yield
    except (CheckFailed, NotApplicable):
        raise
    except Exception as error:
        raise CheckFailed(f"{fact}: expected {expected}, got {text_of(error)}. {remedy}") from error


@contextmanager
def left_to(check: str, reason: str = "") -> Iterator[None]:
    """Skip this check if the body raises, because another check judges what the body does.

    Args:
        check: Name of that check.
        reason: What the component does not do.

    Raises:
        NotApplicable: If the body raises.
    """
    try:
        yield
    except NotApplicable:
        raise
    except Exception as error:
        raise NotApplicable(f"{reason and reason + ': '}see the check {check!r}") from error


def expect_error(
    call: Callable[[], object],
    kind: type[Exception],
    fact: str,
    *,
    mentions: Iterable[str] = (),
    expected: str,
    remedy: str,
) -> None:
    """Fail a check unless a call raises an error of a kind that mentions some words.

    Args:
        call: What to call.
        kind: Kind of error.
        fact: What the call does.
        mentions: Words that the message must have.
        expected: What was expected, in words.
        remedy: One thing to do, a sentence.
    """
    error = raised_by(call)
    is_right = isinstance(error, kind) and all(word in str(error) for word in mentions)
    expect(is_right, fact, expected=expected, found=text_of(error), remedy=remedy)


def raised_by(call: Callable[[], object]) -> Exception | None:
    """Return what a call raises, or None if it returns.

    Example:
        >>> raised_by(lambda: [].pop())
        IndexError('pop from empty list')
    """
    try:
        call()
    except Exception as error:  # noqa: BLE001 - the caller judges it
        return error
    return None


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


def text_of(error: BaseException | None) -> str:
    """Return an exception as one short line without the full stop at its end."""
    if error is None:
        return "no error"
    text = " ".join(str(error).split()).rstrip(".")
    shown = text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}..."
    return f"{type(error).__name__}: {shown}" if shown else type(error).__name__
