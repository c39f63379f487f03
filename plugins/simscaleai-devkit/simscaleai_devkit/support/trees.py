"""A checkpoint tree of edge cases, and the comparison of two trees to the last bit."""

from __future__ import annotations

import math
import struct
from typing import Any

import torch
from torch import Tensor

from simscaleai_devkit.checks import expect_none

_DTYPES = tuple(
    getattr(torch, name)
    for name in (
        *("bool", "uint8", "int8", "int16", "int64", "float16", "bfloat16", "float32", "float64"),
        *("complex64", "complex128", "uint16", "uint64", "float8_e4m3fn", "float8_e5m2"),
    )
)


def edge_case_tree() -> dict[str, Any]:
    """Return a tree with everything that a checkpoint may hold."""
    base = torch.arange(12.0).view(3, 4)
    return {
        "step": 3,
        "views": [base, base.t(), base[1], base[:, ::2], base],
        "kinds": {str(d): torch.tensor([0.0, 1.0, 1.0]).to(d) for d in _DTYPES},
        "scalars": (torch.tensor(3), torch.tensor(0.5, dtype=torch.complex128)),
        "holes": [torch.empty(0), torch.empty(0, 4, dtype=torch.int32)],
        "nan": torch.tensor([math.nan, math.inf, -0.0]),
        "numbers": (0.1, -0.0, math.inf, -math.inf, math.nan, 5e-324, 1e308, 1, True, False, None),
        "big": [2**63 - 1, 2**63, -(2**63), 2**200, -(2**127), 2**2000],
        "keys": {0: "a", -1: {"1": "text", 1: "number", 2**70: ()}, "0": "b"},
        "bytes": [b"\0\xff" * 3, b"text"],
        "text": 'a\n\u2603\U0001f600"\\{',
        "empty": {"d": {}, "l": [], "t": (), "s": ""},
        "nested": ([(1, [2, (3,)])], {"t": ([], {}, ())}),
        "a": {"b": torch.ones(1)},
        "a.b": torch.zeros(2),
        "__metadata__": torch.ones(2),
        "tensor": {"tensor": "a.b", "dict": {}, "tuple": [1]},
    }


def tree_differences(a: Any, b: Any, path: str = "$") -> list[str]:  # noqa: PLR0911 - one per kind
    """Name every place where two trees differ in type or in one bit.

    Args:
        a: A tree of tensors and plain containers.
        b: Another.
        path: Where both stand, for the names.

    Returns:
        One line per difference; empty if they are equal.

    Example:
        >>> tree_differences({"a": [1, 2.0]}, {"a": [1, 2]})
        ['$.a[1]: float 2.0 != int 2']
    """
    if type(a) is not type(b):
        return [f"{path}: {type(a).__name__} {a!r:.60} != {type(b).__name__} {b!r:.60}"]
    if isinstance(a, Tensor):
        same = a.dtype == b.dtype and a.shape == b.shape and _bytes(a) == _bytes(b)
        return [] if same else [f"{path}: {_shown(a)} != {_shown(b)}"]
    if isinstance(a, dict):
        if list(a) != list(b):
            changed = [str(k) for k in a.keys() ^ b.keys()]
            return [f"{path}: keys {', '.join(changed) or 'in another order'}"]
        return [f for k in a for f in tree_differences(a[k], b[k], f"{path}.{k}")]
    if isinstance(a, list | tuple):
        if len(a) != len(b):
            return [f"{path}: {len(a)} != {len(b)} items"]
        pairs = enumerate(zip(a, b, strict=True))
        return [f for i, (x, y) in pairs for f in tree_differences(x, y, f"{path}[{i}]")]
    if isinstance(a, float):
        same = struct.pack("d", a) == struct.pack("d", b)
        return [] if same else [f"{path}: {a!r} != {b!r}"]
    return [] if a == b else [f"{path}: {a!r:.60} != {b!r:.60}"]


def expect_equal(
    found: Any, wanted: Any, fact: str, *, expected: str = "equality to the last bit", remedy: str
) -> None:
    """Fail a check unless two trees are equal to the last bit.

    Args:
        found: A tree of tensors and plain containers, or a single value.
        wanted: What it must equal.
        fact: What it is.
        expected: What was expected, in words.
        remedy: One thing to do, a sentence.
    """
    differences = tree_differences(found, wanted)
    expect_none(differences[:3], fact, expected=expected, remedy=remedy)


def _bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    raw: bytes = flat.view(torch.uint8).numpy().tobytes()
    return raw


def _shown(tensor: Tensor) -> str:
    kind = str(tensor.dtype).removeprefix("torch.")
    values = "" if tensor.numel() > 4 or "float8" in kind else f" {tensor.tolist()}"
    return f"{kind} {list(tensor.shape)}{values}"
