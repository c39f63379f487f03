"""Things that take time to open, kept for the next who asks in this process."""

from __future__ import annotations

import os
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Held(Generic[K, V]):
    """The last used of some things, by key.

    A pickle holds none of them, and a forked process does not use its parent's: two processes that
    read through one open file would disturb each other.

    Args:
        limit: Largest sum of sizes that is kept; the last one is kept whatever its size.
        size: Size of one; each counts as 1 if not given.
    """

    def __init__(self, limit: int, size: Callable[[V], int] | None = None) -> None:
        self._limit = limit
        self._size = size
        self.clear()
        _ALL.add(self)

    def get(self, key: K, make: Callable[[], V]) -> V:
        """Return what belongs to a key; make it if it is not kept."""
        if key not in self._kept:
            self._kept[key] = made = make()
            self._total += self._size_of(made)
            while self._total > self._limit and len(self._kept) > 1:
                _, oldest = self._kept.popitem(last=False)
                self._total -= self._size_of(oldest)
        self._kept.move_to_end(key)
        return self._kept[key]

    def drop(self, key: K) -> None:
        """Let go of what belongs to a key, if it is kept."""
        if key in self._kept:
            self._total -= self._size_of(self._kept.pop(key))

    def clear(self) -> None:
        """Let go of everything."""
        self._kept: OrderedDict[K, V] = OrderedDict()
        self._total = 0

    def abandon(self) -> None:
        """Let go of everything without closing it: decoders wait for threads that no fork has."""
        _ABANDONED.append(self._kept)
        self.clear()

    def _size_of(self, value: V) -> int:
        return 1 if self._size is None else self._size(value)

    def __reduce__(self) -> tuple[object, ...]:
        return Held, (self._limit, self._size)


_ALL: weakref.WeakSet[Held[Any, Any]] = weakref.WeakSet()
_ABANDONED: list[object] = []


def _abandon_all() -> None:
    for held in list(_ALL):
        held.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
