"""From plain tables (TOML, flags, a checkpoint) to attrs classes: every problem at once.

Types are strict: 10.7 is not an integer and "false" is not false. An integer passes for a float.
"""

from __future__ import annotations

import difflib
import tomllib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import attrs
import cattrs
import tomli_w
from docstring_parser import parse_from_object

from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import ConfigError

T = TypeVar("T")


def structure(cls: type[T], table: Mapping[str, Any], *, place: str = "$") -> T:
    """Build an attrs class from a plain table.

    Args:
        cls: The attrs class.
        table: Field names to values.
        place: Where the table stands, for messages.

    Returns:
        The instance.

    Raises:
        ConfigError: If keys are unknown or values do not fit; all of them are named.
    """
    fields = {f.name: f for f in attrs.fields(cls)}  # type: ignore[arg-type]
    hints = get_type_hints(cls)
    problems = [_unknown(key, list(fields), place) for key in table if key not in fields]
    values: dict[str, Any] = {}
    for name in fields.keys() & table.keys():
        try:
            values[name] = _value(table[name], hints[name])
            _validate(fields[name], values[name])
        except (ConfigError, ValueError, TypeError) as error:
            problems.append(f"{_reason(error)} @ {place}.{name}")
    if problems:
        raise ConfigError(*sorted(problems))
    try:
        return cls(**values)
    except (ConfigError, ValueError, TypeError) as error:
        raise ConfigError(f"{_reason(error)} @ {place}") from error


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Args:
        path: The file.

    Returns:
        Its tables.

    Raises:
        ConfigError: If it is missing or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"cannot read the configuration {path}: {reason}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}.") from error


def build_config(*tables: Mapping[str, Any], place: str = "$") -> TrainConfig:
    """Build the run's configuration from tables, later ones over earlier ones.

    A table that is not a field, such as ``[vla]``, holds the options of the component of that name.

    Args:
        tables: For example a TOML file's table and the flags.
        place: Where the tables stand, for messages.

    Returns:
        The configuration.

    Raises:
        ConfigError: If anything does not fit; all problems are named.
    """
    names = {f.name for f in attrs.fields(TrainConfig)}
    merged: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for table in tables:
        for key, value in table.items():
            if key == "options":
                options = _merge(options, _option_tables(value, place))
            elif isinstance(value, Mapping) and key not in names:
                options = _merge(options, {key: value})
            elif isinstance(value, Mapping):
                merged[key] = _merge(merged.get(key, {}), value)
            else:
                merged[key] = value
    if options:
        merged["options"] = options
    return structure(TrainConfig, merged, place=place)


def write_toml(config: TrainConfig, path: Path) -> None:
    """Write a configuration that `read_toml` and `build_config` give back."""
    table = {k: v for k, v in attrs.asdict(config).items() if v is not None}
    path.write_text(tomli_w.dumps(table), encoding="utf-8")


def field_docs(cls: type) -> dict[str, str]:
    """Return the documentation that stands under each field of an attrs class, or of its bases."""
    return {
        p.arg_name: " ".join((p.description or "").split())
        for part in reversed(cls.__mro__[:-1])
        for p in parse_from_object(part).params
    }


def parse_literal(text: str) -> Any:
    """Return a value as TOML reads it, or the text itself if TOML does not.

    Example:
        >>> parse_literal("0.5"), parse_literal("[1, 2]"), parse_literal("relu")
        (0.5, [1, 2], 'relu')
    """
    try:
        table = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return table["value"] if len(table) == 1 else text


def _option_tables(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"expected a table per component, got {value!r} @ {place}.options")
    for name, table in value.items():
        if not isinstance(table, Mapping):
            raise ConfigError(f"expected a table, got {table!r} @ {place}.options.{name}")
    return value


def _merge(old: Any, new: Any) -> Any:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return {**old, **{k: _merge(old.get(k), v) for k, v in new.items()}}
    return new


def _unknown(key: str, known: list[str], place: str) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    hint = f" Did you mean {close[0]!r}?" if close else f" Known: {', '.join(sorted(known))}."
    return f"unknown field {key!r} @ {place}.{hint}"


def _validate(field: attrs.Attribute[Any], value: Any) -> None:
    if field.validator is not None:
        field.validator(None, field, value)


def _reason(error: Exception) -> str:
    return str(error.args[0]) if error.args else type(error).__name__


def _strict(kind: type, *accepted: type) -> Any:
    def convert(value: Any, _: Any) -> Any:
        if type(value) not in accepted:
            raise ConfigError(f"expected {kind.__name__}, got {type(value).__name__} {value!r}")
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
    return _CONVERTER.structure(value, hint)
