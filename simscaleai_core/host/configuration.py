"""From tables of plain values to attrs classes: every problem at once.

Types are strict: 10.7 is not an integer and "false" is not false. An integer passes for a float.
"""

from __future__ import annotations

import itertools
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import attrs
import cattrs

from simscaleai_core.errors import ConfigError, suggestion

T = TypeVar("T")

_MAX_NAMED = 20  # who misspells more has mistaken the file; each suggestion takes a millisecond


def structure(cls: type[T], table: Mapping[str, Any], *, place: str = "$") -> T:
    """Return an attrs class built from a table of field names and plain values.

    Args:
        cls: The attrs class.
        table: Field names to values.
        place: Where the table stands, for messages.

    Raises:
        ConfigError: If keys are unknown or values do not fit; all of them are named.
    """
    fields = {f.name: f for f in attrs.fields(cls)}  # type: ignore[arg-type]
    hints = get_type_hints(cls)
    problems: list[str] = []
    values: dict[str, Any] = {}
    for name in fields.keys() & table.keys():
        try:
            values[name] = _value(table[name], hints[name])
            _validate(fields[name], values[name])
        except (ValueError, TypeError, OverflowError) as error:
            problems.append(f"{_reason(error)} @ {place}.{name}")
    strange = (key for key in table if key not in fields)
    unknown = unknown_names(strange, fields, lambda key: f"unknown field {key!r} @ {place}.")
    if problems or unknown:
        raise ConfigError(*sorted(problems), *unknown)
    try:
        return cls(**values)
    except (ValueError, TypeError, OverflowError) as error:
        raise ConfigError(f"{_reason(error)} @ {place}") from error


def unknown_names(
    names: Iterable[str], known: Iterable[str], say: Callable[[str], str]
) -> list[str]:
    """Return a problem for each of the first twenty unknown names, and the count of the others.

    `say` says what is wrong with a name; the known name that it may mean is added.
    """
    left, known = iter(names), sorted(known)
    problems = []
    for name in itertools.islice(left, _MAX_NAMED):
        close = suggestion(name, known)
        hint = f"Did you mean {close!r}?" if close else f"Known: {', '.join(known)}."
        problems.append(f"{say(name)} {hint}")
    rest = sum(1 for _ in left)
    return [*problems, f"... and {rest} more of the kind."] if rest else problems


def _validate(field: attrs.Attribute[Any], value: Any) -> None:
    if field.validator is not None:
        field.validator(None, field, value)


def _reason(error: Exception) -> str:
    return str(error.args[0]) if error.args else type(error).__name__


def _strict(kind: type, *accepted: type) -> Any:
    def convert(value: Any, _: Any) -> Any:
        if type(value) not in accepted:
            raise ConfigError(f"expected {kind.__name__}, got {type(value).__name__} {value!r}")
        if kind is int and value.bit_length() > 64:
            raise ConfigError(
                f"expected int of at most 64 bits, got one of {value.bit_length()} bits"
            )
        return kind(value)

    return convert


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=False)
    converter.register_structure_hook(int, _strict(int, int))
    converter.register_structure_hook(float, _strict(float, float, int))
    converter.register_structure_hook(bool, _strict(bool, bool))
    converter.register_structure_hook(str, _strict(str, str))
    converter.register_structure_hook(Path, lambda value, _: Path(value))
    return converter


_CONVERTER = _converter()


def _value(value: Any, hint: Any) -> Any:
    """Convert one value; a union takes the first member that fits."""
    if hint is Any or get_origin(hint) is Mapping or hint is Mapping:
        if get_origin(hint) is Mapping and not isinstance(value, Mapping):
            raise ConfigError(f"expected a table, got {type(value).__name__} {value!r}")
        return value
    if get_origin(hint) in {Union, types.UnionType}:
        if value is None and type(None) in get_args(hint):
            return None
        members = [m for m in get_args(hint) if m is not type(None)]
        for member in members[:-1]:
            try:
                return _value(value, member)
            except ConfigError:
                continue
        return _value(value, members[-1])
    if get_origin(hint) is tuple and not isinstance(value, (list, tuple)):
        raise ConfigError(f"expected a list, got {type(value).__name__} {value!r}")
    if get_origin(hint) is tuple and get_args(hint)[1:] == (...,):
        return tuple(_value(part, get_args(hint)[0]) for part in value)
    return _CONVERTER.structure(value, hint)
