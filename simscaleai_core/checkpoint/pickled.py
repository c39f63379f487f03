"""Pickles read as descriptions: nothing that they name is looked up, called or built.

A pickle is a list of instructions, some of which call what it names. Here they give plain values
and `Described` objects, so that a reader sees everything before anything is done.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from typing import Any, ClassVar

from attrs import define

_INSTRUCTIONS = frozenset((
    "PROTO", "FRAME", "STOP", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2",
    "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINPUT", "LONG_BINPUT", "MEMOIZE",
    "BINGET", "LONG_BINGET", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "MARK", "TUPLE", "TUPLE1",
    "TUPLE2", "TUPLE3", "APPEND", "APPENDS", "SETITEM", "SETITEMS", "GLOBAL", "STACK_GLOBAL",
    "BINPERSID", "REDUCE", "NEWOBJ", "BUILD",
))  # fmt: skip


@define(eq=False)
class Described:
    """What a pickle names, or would build with a call."""

    kind: str
    """Dotted name; ``"stored"`` for what lies beside the pickle."""
    arguments: tuple[Any, ...] | None = None
    """What it would be called with; None if it is only named."""
    state: Any = None
    """What the result of the call would be given afterwards."""


class _Table(dict[Any, Any]):
    __slots__ = ()

    def __setitem__(self, key: Any, value: Any) -> None:
        if type(key) not in {str, int, bool, Described}:  # the hash of a tuple can take for ever
            raise ValueError("it has a key that is neither text nor a number")
        super().__setitem__(key, value)


class _Memo(dict[int, Any]):
    def __getitem__(self, place: int) -> Any:
        value = super().__getitem__(place)
        if isinstance(value, (dict, list, tuple)):
            raise ValueError("it holds one container in two places")
        return value


class Description(pickle._Unpickler):
    """What one pickle stands for, by the instructions that a checkpoint needs.

    Raises:
        ValueError: If it is damaged, has another instruction, or has a list, dict or tuple in two
            places, as a file of a few bytes has that unfolds to a tree of any size.
    """

    stack: list[Any]

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.memo = _Memo()
        self.objects: list[Described] = []
        """Everything that it names or would build, in its order."""
        for instruction, _, _ in pickletools.genops(data):
            if instruction.name not in _INSTRUCTIONS:
                raise ValueError(f"its pickle has the instruction {instruction.name}")
        try:
            self.value: Any = self.load()
            """The value itself."""
        except (LookupError, AttributeError, TypeError, pickle.UnpicklingError) as error:
            raise ValueError("its pickle is damaged") from error

    def find_class(self, module: str, name: str) -> Described:
        """Describe something outside the pickle."""
        return self._described(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Described:
        """Describe what lies beside the pickle."""
        return self._described("stored", (*pid,))

    def _described(self, kind: str, arguments: tuple[Any, ...] | None = None) -> Described:
        self.objects.append(Described(kind, arguments))
        return self.objects[-1]

    def _call(self) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if called.arguments is not None:
            raise TypeError
        self.stack.append(self._described(called.kind, (*arguments,)))

    def _build(self) -> None:
        state, built = self.stack.pop(), self.stack[-1]
        if built.arguments is None:
            raise TypeError
        built.state = state

    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch,
        **dict.fromkeys(pickle.REDUCE + pickle.NEWOBJ, _call),
        pickle.BUILD[0]: _build,
        pickle.EMPTY_DICT[0]: lambda self: self.append(_Table()),
    }
