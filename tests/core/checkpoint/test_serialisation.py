"""What a checkpoint may hold is checked when it is saved, and named by its path."""

from __future__ import annotations

import collections
import enum
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simscaleai_core.checkpoint.serialisation import to_serialisable
from simscaleai_core.errors import ConfigError


class Colour(enum.Enum):
    """Not plain."""

    RED = 1


def _loads(tree: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(tree, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_what_is_plain_stays_and_loads_safely() -> None:
    tree = {
        "a": 1, "b": 2.5, "c": "text", "d": None, "e": True, "f": b"x", 3: [1, (2, "y")],
        "t": torch.ones(2), "nested": {"x": {"y": []}},
    }  # fmt: skip
    plain = to_serialisable(tree)
    assert {k: v for k, v in plain.items() if k != "t"} == {
        k: v for k, v in tree.items() if k != "t"
    }
    assert isinstance(plain[3], list) and isinstance(plain[3][1], tuple)
    assert _loads(plain)["nested"] == {"x": {"y": []}}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(1.5), 1.5),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.defaultdict(int, a=1), {"a": 1}),
        (collections.namedtuple("P", "x y")(1, 2), (1, 2)),
    ],
    ids=str,
)
def test_what_has_a_plain_equivalent_is_converted(value: object, expected: object) -> None:
    found = to_serialisable({"v": value})["v"]
    assert found == expected
    assert type(found) is type(expected)
    assert _loads({"v": found})["v"] == expected


@pytest.mark.parametrize(
    "value",
    [np.zeros(2), Path("x"), Colour.RED, {1, 2}, object(), torch.nn.Linear(1, 1), torch.Generator(),
     1j, print],
    ids=lambda v: type(v).__name__,
)  # fmt: skip
def test_what_is_not_plain_is_named_by_its_path(value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        to_serialisable({"states": {"foo": [1, {"hist": value}]}})
    assert "@ $.states.foo[1].hist" in str(caught.value)
    assert type(value).__qualname__ in str(caught.value)


def test_an_int_enum_does_not_slip_through() -> None:
    """It is an int, but its class would be pickled and the file could not be loaded."""
    number = enum.IntEnum("Number", "ONE")
    try:
        plain = to_serialisable({"v": number.ONE})
    except ConfigError:
        return
    assert type(plain["v"]) is int


def test_a_float_or_int_subclass_does_not_slip_through() -> None:
    class Loss(float):
        pass

    try:
        plain = to_serialisable({"v": Loss(1.0)})
    except ConfigError:
        return
    assert type(plain["v"]) is float


def test_a_parameter_becomes_a_tensor() -> None:
    plain = to_serialisable({"p": torch.nn.Parameter(torch.ones(2))})
    assert not plain["p"].requires_grad


@pytest.mark.parametrize("key", [1.5, None, ("a",), b"x"])
def test_a_key_must_be_text_or_an_integer(key: object) -> None:
    with pytest.raises(ConfigError, match=r"key .* @ \$\.a"):
        to_serialisable({"a": {key: 1}})


def test_the_tree_that_is_given_is_not_changed() -> None:
    inner = {"x": np.float64(1)}
    to_serialisable({"a": inner})
    assert type(inner["x"]) is np.float64


def test_equal_trees_become_equal_bytes() -> None:
    """Text that is equal but not the same object must not be pickled twice."""
    a, b = "na" + "me", "".join(["na", "me"])
    first = to_serialisable({"x": [a, a], "y": {a: a}})
    second = to_serialisable({"x": [a, b], "y": {b: "".join(["na", "me"])}})
    files = []
    for tree in (first, second):
        file = io.BytesIO()
        torch.save(tree, file)
        files.append(file.getvalue())
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("value", "name"),
    [(b"", "empty bytes"), (1 << 20_000, "an integer of more")],
    ids=["bytes", "integer"],
)
def test_what_torch_writes_but_does_not_read_back_is_refused(value: Any, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}.* @ \$\.states\[0\]"):
        to_serialisable({"states": [value]})
