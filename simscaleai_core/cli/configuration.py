"""The run's configuration from TOML files and flags, and back."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import tomli_w
from docstring_parser import parse_from_object

from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import ConfigError
from simscaleai_core.host.configuration import structure


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
