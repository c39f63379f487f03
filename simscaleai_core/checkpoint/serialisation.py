"""The only values that a checkpoint may hold: tensors, numbers, text and plain containers.

One NumPy scalar would make a file that saves well and can never be loaded with
``weights_only=True``; so the tree is checked when it is saved, and the fault is named by its path.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from simscaleai_core.errors import ConfigError

_MOST_BITS = 255 * 8  # of an integer that torch reads back safely

KeepTensor = Callable[[str, torch.Tensor], torch.Tensor]


def to_serialisable(
    tree: Mapping[str, Any], keep: KeepTensor = lambda _, tensor: tensor.detach()
) -> dict[str, Any]:
    """Return a copy of a tree's containers; numbers and text become plain Python values.

    Text is interned, so that two equal trees become the same bytes whatever their history.

    Args:
        tree: The tree to check.
        keep: Gives what to put in place of a tensor, from its path and the tensor; detaches it if
            not given.

    Raises:
        ConfigError: If a checkpoint cannot hold a value, named by its path.
    """
    plain: dict[str, Any] = _plain(tree, "$", keep)
    return plain


def _plain(value: Any, path: str, keep: KeepTensor) -> Any:  # noqa: PLR0911 - one line per kind of value
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, torch.Tensor):
        return keep(path, value)
    if isinstance(value, str):
        return sys.intern(str(value))
    if isinstance(value, np.generic):
        return _plain(value.item(), path, keep)
    if isinstance(value, (int, float, bytes)):
        return _plain_scalar(value, path)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, (str, int)):
                fault = f"a checkpoint cannot hold the key {key!r} @ {path}"
                raise ConfigError(f"{fault}: expected text or an integer.")
        return {_plain(k, path, keep): _plain(v, f"{path}.{k}", keep) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        items = [_plain(v, f"{path}[{i}]", keep) for i, v in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    raise ConfigError(
        f"a checkpoint cannot hold {type(value).__module__}.{type(value).__qualname__} @ {path}: "
        "expected tensors, numbers, text and plain containers. Convert it in state_dict()."
    )


def _plain_scalar(value: float | bytes, path: str) -> Any:
    """Return a number or bytes; of a subclass, such as an IntEnum, the plain value."""
    is_long = isinstance(value, int) and value.bit_length() > _MOST_BITS
    if is_long or value == b"":
        found = f"an integer of more than {_MOST_BITS} bits" if is_long else "empty bytes"
        raise ConfigError(
            f"a checkpoint cannot hold {found} @ {path}: torch writes them in a form that "
            "weights_only=True refuses to read. Store them as text."
        )
    kind: Any = next(k for k in (int, float, bytes) if isinstance(value, k))
    return kind(value)
