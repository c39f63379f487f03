"""Declaring beside a broken component which check fails for it, and a word of the message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

C = TypeVar("C")

Broken = tuple[Any, str, str]
"""A component, the name of the check that fails for it, and a word of its message."""


def declared_in(table: list[Broken]) -> Callable[[str, str], Callable[[C], C]]:
    """Return a decorator ``fails(check, word)`` that adds a component to a table."""

    def fails(check: str, word: str) -> Callable[[C], C]:
        def add(component: C) -> C:
            table.append((component, check, word))
            return component

        return add

    return fails
