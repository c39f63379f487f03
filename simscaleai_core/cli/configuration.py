"""The run's configuration from TOML files and flags, and back."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import tomli_w
from docstring_parser import parse_from_object

from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import ConfigError
from simscaleai_core.host.configuration import structure

_MAX_BYTES = 2**20
_MAX_DEPTH = 32  # levels of tables and lists
_MAX_BITS = 64  # the seed; TOML itself promises 63 and a sign
# The parser's time grows with the square of a dotted key's length: 50,000 parts take minutes.
_LONG_KEY = re.compile(
    rf"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{_MAX_DEPTH}}}"""
)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Args:
        path: The file.

    Returns:
        Its tables.

    Raises:
        ConfigError: If it is missing, not TOML, or of a size that no configuration has.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # a name with NUL is no OSError
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot read the configuration {path}: {reason}.") from error
    if len(data) > _MAX_BYTES:
        raise ConfigError(
            f"{path} is too large for a configuration: expected at most {_MAX_BYTES // 1024} KiB."
        )
    try:
        return _parsed(data.decode("utf-8"), str(path))
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
                for name, inner in _option_tables(value, place).items():
                    options[name] = _merge(options.get(name), inner)
            elif isinstance(value, Mapping) and key not in names:
                options[key] = _merge(options.get(key), value)
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
    """Return a value as TOML reads it, a table as JSON does, or the text itself if neither can.

    Example:
        >>> parse_literal("0.5"), parse_literal("[1, 2]"), parse_literal("relu")
        (0.5, [1, 2], 'relu')
        >>> parse_literal('{"state": "pose"}')
        {'state': 'pose'}

    Raises:
        ConfigError: If it is nested too deeply, or has an integer of more than 64 bits.
    """
    try:
        table = _parsed(f"value = {text}", "a flag's value")
    except tomllib.TOMLDecodeError:
        return _parsed_json(text) if text.startswith("{") else text
    return table["value"] if len(table) == 1 else text


def _parsed_json(text: str) -> Any:
    try:
        return json.loads(text) if text.count("{") <= _MAX_DEPTH else text
    except ValueError:
        return text


def _parsed(text: str, place: str) -> dict[str, Any]:
    """Parse TOML; what the parser would take too long for, or not come back from, is refused."""
    deep = f"{place} is nested too deeply: expected at most {_MAX_DEPTH} levels."
    long = f"{place} has an integer that is too large: expected at most {_MAX_BITS} bits."
    if _LONG_KEY.search(text):
        raise ConfigError(deep)
    try:
        table = tomllib.loads(text)
    except RecursionError:
        raise ConfigError(deep) from None
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:  # Python reads no integer of more than 4300 digits
        raise ConfigError(long) from None
    level: list[Any] = [table]
    for _ in range(_MAX_DEPTH):
        if any(type(v) is int and v.bit_length() > _MAX_BITS for v in level):
            raise ConfigError(long)
        level = [inner for v in level for inner in _inside(v)]
    if level:
        raise ConfigError(deep)
    return table


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list) else ()


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
