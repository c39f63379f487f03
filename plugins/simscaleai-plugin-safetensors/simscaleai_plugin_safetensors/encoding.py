"""A checkpoint's tree as flat tensors and JSON, and back, without loss.

JSON has no tuples, bytes, integer keys or infinities. So a JSON object always stands for one value
of a named kind, and everything else is itself::

    [1, 2]                          a list
    {"tuple": [1, 2]}               a tuple
    {"dict": {"a": 1}}              a dict whose keys are text
    {"items": [[0, "a"]]}           a dict with other keys
    {"tensor": "name"}              the tensor of that name
    {"tensor": "name", "as": ["complex128", [2, 3]]}   stored as bytes; its dtype and shape
    {"bytes": "AA=="}   {"int": "0x..."}   {"float": "inf"}

The outermost object also has ``"crc32"``: a checksum of all of this and of the tensors.
"""

from __future__ import annotations

import base64
import json
import math
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from simscaleai_core.contracts import StateDict

NATIVE_DTYPES = frozenset(
    getattr(torch, name)
    for name in (
        "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
        "float16", "bfloat16", "float32", "float64", "complex64", "float8_e4m3fn", "float8_e5m2",
    )
)  # fmt: skip
"""What the file format knows; any other dtype is stored as bytes."""

_RESERVED_NAME = "__metadata__"
_SMALL_INT = 1 << 63
_CHECKSUM = re.compile(r',"crc32":(\d+)\}\Z')


class Encoder:
    """Turns one tree into JSON and collects its tensors."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        """The tensors by name: contiguous, on the CPU, no two in one memory."""
        self._memory: set[int] = set()

    def encode(self, tree: StateDict) -> str:
        """Return a tree as JSON with its checksum; its tensors are in `tensors` then."""
        text = json.dumps(self._value(tree, ""), allow_nan=False, separators=(",", ":"))
        return f'{text[:-1]},"crc32":{_checksum(text, self.tensors)}}}'

    def _value(self, value: Any, path: str) -> Any:  # noqa: PLR0911 - one line per kind of value
        if value is None or isinstance(value, (bool, str)):
            return value
        if isinstance(value, Tensor):
            return self._tensor(value, path)
        if isinstance(value, int):
            return value if abs(value) < _SMALL_INT else {"int": hex(value)}
        if isinstance(value, float):
            return value if math.isfinite(value) else {"float": repr(value)}
        if isinstance(value, bytes):
            return {"bytes": base64.b64encode(value).decode("ascii")}
        if isinstance(value, list):
            return [self._value(v, _join(path, i)) for i, v in enumerate(value)]
        if isinstance(value, tuple):
            return {"tuple": [self._value(v, _join(path, i)) for i, v in enumerate(value)]}
        if isinstance(value, Mapping):
            return self._mapping(value, path)
        raise TypeError(f"a checkpoint cannot hold {type(value).__qualname__} @ {path}")

    def _mapping(self, value: Mapping[Any, Any], path: str) -> dict[str, Any]:
        items = [(key, self._value(v, _join(path, key))) for key, v in value.items()]
        if all(isinstance(key, str) for key, _ in items):
            return {"dict": dict(items)}
        return {"items": [[self._value(key, path), v] for key, v in items]}

    def _tensor(self, value: Tensor, path: str) -> dict[str, Any]:
        name = path
        while name in self.tensors or name == _RESERVED_NAME:
            name += "~"
        tensor = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
        about: dict[str, Any] = {"tensor": name}
        if tensor.dtype not in NATIVE_DTYPES:
            about["as"] = [str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]
            tensor = tensor.reshape(-1).view(torch.uint8)
        memory = tensor.untyped_storage().data_ptr()
        self.tensors[name] = tensor.clone() if memory in self._memory else tensor
        self._memory.add(memory)
        return about


def decode(text: str, tensors: Mapping[str, Tensor]) -> Any:
    """Turn JSON and tensors back into a tree.

    Args:
        text: What `Encoder.encode` returned.
        tensors: The tensors by name.

    Returns:
        The tree, equal to what was encoded, in types as well.

    Raises:
        ValueError: If it does not match its checksum, or is nothing that `Encoder` writes. What
            version 0.1.0 wrote has no checksum.
    """
    checksum = _CHECKSUM.search(text)
    if checksum:
        text = f"{text[: checksum.start()]}}}"
        if _checksum(text, tensors) != int(checksum[1]):
            raise ValueError("it does not match the checksum in its header")
    try:
        return _decoded(json.loads(text), tensors)
    except (AttributeError, LookupError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"its header describes no tree ({reason})") from error


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> int:
    """Return the CRC-32 of a text and of names, kinds, shapes and bytes of tensors."""
    checksum = zlib.crc32(text.encode())
    for name, tensor in sorted(tensors.items()):
        kind = f"{name!r} {tensor.dtype} {list(tensor.shape)}"
        checksum = zlib.crc32(kind.encode(), checksum)
        checksum = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, checksum)
    return checksum


def _decoded(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_decoded(v, tensors) for v in value]
    if not isinstance(value, dict):
        return value
    kind = next(iter(value), "")
    if kind == "tensor":
        return _viewed(tensors[value[kind]], value.get("as"))
    if kind not in _DECODERS:
        raise ValueError(f"it describes a value of an unknown kind, {kind!r}")
    return _DECODERS[kind](value[kind], lambda inner: _decoded(inner, tensors))


_DECODERS: Mapping[str, Callable[[Any, Callable[[Any], Any]], Any]] = {
    "dict": lambda content, inner: {key: inner(v) for key, v in content.items()},
    "items": lambda content, inner: {inner(key): inner(v) for key, v in content},
    "tuple": lambda content, inner: tuple(map(inner, content)),
    "bytes": lambda content, _: base64.b64decode(content, validate=True),
    "int": lambda content, _: int(content, 16),
    "float": lambda content, _: float(content),
}


def _viewed(tensor: Tensor, kind: tuple[str, list[int]] | None) -> Tensor:
    if kind is None:
        return tensor
    dtype = getattr(torch, kind[0])
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"it names an unknown dtype, {kind[0]!r}")
    return tensor.view(dtype).reshape(kind[1])


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)
