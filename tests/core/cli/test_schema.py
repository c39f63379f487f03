"""The JSON Schema of options says what their class accepts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

import pytest
from attrs import field, frozen
from attrs.validators import and_, ge, gt, in_, le, lt, optional

from simscaleai_core.cli.app import run
from simscaleai_core.cli.schema import options_schema


@frozen(kw_only=True)
class Inner:
    depth: int = 1
    """How deep."""


@frozen(kw_only=True)
class Options:
    """Every type that options have."""

    name: str
    """What it is called."""
    width: int = field(default=8, validator=ge(1))
    rate: float = field(default=0.5, validator=and_(gt(0.0), lt(1.0)))
    share: float | None = field(default=None, validator=optional(le(1.0)))
    loss: str = field(default="mse", validator=in_(("mse", "l1")))
    other: str | None = field(default=None, validator=optional(in_(("a", "b"))))
    mode: Literal["fast", "slow"] = "fast"
    flag: bool = False
    keys: tuple[str, ...] = ("a",)
    size: tuple[int, int] = (64, 64)
    table: Mapping[str, float] = field(factory=dict)
    inner: Inner = Inner()


EXPECTED: dict[str, dict[str, Any]] = {
    "name": {"type": "string", "description": "What it is called."},
    "width": {"type": "integer", "minimum": 1, "default": 8},
    "rate": {"type": "number", "exclusiveMinimum": 0.0, "exclusiveMaximum": 1.0, "default": 0.5},
    "share": {"type": ["number", "null"], "maximum": 1.0, "default": None},
    "loss": {"type": "string", "enum": ["mse", "l1"], "default": "mse"},
    "other": {"type": ["string", "null"], "enum": ["a", "b", None], "default": None},
    "mode": {"enum": ["fast", "slow"], "default": "fast"},
    "flag": {"type": "boolean", "default": False},
    "keys": {"type": "array", "items": {"type": "string"}, "default": ["a"]},
    "size": {
        "type": "array",
        "prefixItems": [{"type": "integer"}, {"type": "integer"}],
        "minItems": 2,
        "items": False,
        "default": [64, 64],
    },
    "table": {"type": "object", "additionalProperties": {"type": "number"}, "default": {}},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_each_type(name: str) -> None:
    assert options_schema(Options)["properties"][name] == EXPECTED[name]


def test_the_whole() -> None:
    schema = options_schema(Options, title="mine")
    assert (schema["title"], schema["required"]) == ("mine", ["name"])
    assert schema["additionalProperties"] is False
    inner = schema["properties"]["inner"]
    assert inner["properties"]["depth"]["description"] == "How deep."
    assert json.loads(json.dumps(schema))["properties"]["inner"]["default"] == {"depth": 1}


def test_the_command_prints_one_schema_per_component(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plugins", "info", "extensions", "--schema"]) == 0
    schemas = json.loads(capsys.readouterr().out)
    assert "extensions/ema" in schemas
    for name, schema in schemas.items():
        assert schema["title"] == name and schema["type"] == "object"
        assert schema["$schema"].startswith("https://json-schema.org/")


@frozen(kw_only=True)
class Derived(Inner):
    depth: int = 2
    width: int = 3
    """How wide."""


def test_inherited_fields_keep_their_documentation() -> None:
    properties = options_schema(Derived)["properties"]
    assert properties["depth"] == {"type": "integer", "default": 2, "description": "How deep."}
    assert properties["width"]["description"] == "How wide."
