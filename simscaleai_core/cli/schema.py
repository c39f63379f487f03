"""The options of a component as JSON Schema, for editors and programs that write configurations."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs
from attrs import validators

from simscaleai_core.cli.configuration import field_docs

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_SIMPLE = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
_BOUNDS = {
    ">=": "minimum",
    ">": "exclusiveMinimum",
    "<=": "maximum",
    "<": "exclusiveMaximum",
}
_OPTIONAL: Any = type(validators.optional(validators.in_(())))  # attrs keeps the class private


def options_schema(cls: type, *, title: str = "") -> dict[str, Any]:
    """Describe an options class.

    Args:
        cls: An attrs class.
        title: Title of the schema; the name of the class if empty.

    Returns:
        A JSON Schema (draft 2020-12): every field with type, default, documentation and the limits
        that its validators set; other keys are not allowed.

    Example:
        >>> from attrs import frozen
        >>> @frozen
        ... class Options:
        ...     width: int = 8
        >>> options_schema(Options)["properties"]["width"]
        {'type': 'integer', 'default': 8}
    """
    docs, hints = field_docs(cls), get_type_hints(cls)
    fields = attrs.fields(cls)
    properties = {f.name: _property(f, hints[f.name], docs.get(f.name, "")) for f in fields}
    required = [f.name for f in fields if f.default is attrs.NOTHING]
    return {
        "title": title or cls.__name__,
        "type": "object",
        "properties": properties,
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def _property(field: attrs.Attribute[Any], hint: Any, doc: str) -> dict[str, Any]:
    found = {**_type_schema(hint), **_limits(field.validator)}
    default: Any = field.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        default = attrs.NOTHING if default.takes_self else default.factory()
    if attrs.has(type(default)):
        default = attrs.asdict(default)
    if default is not attrs.NOTHING:
        found["default"] = list(default) if isinstance(default, tuple) else default
    return {**found, "description": doc} if doc else found


def _type_schema(hint: Any) -> dict[str, Any]:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in _SIMPLE:
        return {"type": _SIMPLE[hint]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in {Union, types.UnionType}:
        members = [_type_schema(a) for a in arguments]
        if all(set(m) == {"type"} for m in members):
            return {"type": [m["type"] for m in members]}
        return {"anyOf": members}
    if isinstance(hint, type) and attrs.has(hint):
        return options_schema(hint)
    return _container_schema(origin, arguments)


def _container_schema(origin: Any, arguments: tuple[Any, ...]) -> dict[str, Any]:
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _type_schema(arguments[1])}
    if origin not in {tuple, list}:
        return {}  # anything
    if arguments[1:] and arguments[1] is not Ellipsis:
        parts = [_type_schema(a) for a in arguments]
        return {"type": "array", "prefixItems": parts, "minItems": len(parts), "items": False}
    return {"type": "array", "items": _type_schema(arguments[0])}


def _limits(validator: Any) -> dict[str, Any]:
    """Return what attrs' own validators demand; a function of the author's cannot be described."""
    if isinstance(validator, _OPTIONAL):
        limits = _limits(validator.validator)
        return {"enum": [*limits["enum"], None]} if "enum" in limits else limits
    parts = getattr(validator, "_validators", None)  # of attrs' and_
    if parts is not None:
        return {key: value for part in parts for key, value in _limits(part).items()}
    if hasattr(validator, "options"):  # of attrs' in_
        return {"enum": list(validator.options)}
    if hasattr(validator, "bound") and hasattr(validator, "compare_op"):
        return {_BOUNDS[validator.compare_op]: validator.bound}
    return {}
