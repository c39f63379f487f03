"""A checkpoint's tree as a skeleton and flat tensors, and back.

The skeleton is the tree with a meta tensor, which has dtype and shape but no data, in the place of
each tensor. Names follow from where a tensor stands, so that they need not be stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from simscaleai_core.checkpoint.serialisation import to_serialisable
from simscaleai_core.checkpoint.spread import is_spread
from simscaleai_core.contracts import StateDict

_EQUAL_ON_ALL_RANKS = ("model_state_dict.", "optimizer_state_dict.")


def is_everyones(name: str, tensor: Tensor) -> bool:
    """Return whether any rank may write a tensor `[...]`, or a part of it; others are rank 0's."""
    return name.startswith(_EQUAL_ON_ALL_RANKS) or is_spread(tensor)


def split(tree: StateDict) -> tuple[StateDict, dict[str, Tensor]]:
    """Return the skeleton of a tree, and its tensors by name."""
    tensors: dict[str, Tensor] = {}

    def keep(path: str, tensor: Tensor) -> Tensor:
        tensors[_name(path, tensors)] = tensor.detach()
        return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")

    return to_serialisable(tree, keep), tensors


def fill(skeleton: StateDict, read: Callable[[str, Tensor], Tensor]) -> StateDict:
    """Return the tree of a skeleton.

    Args:
        skeleton: The tree with meta tensors.
        read: Gives the tensor of a name, from the name and the meta tensor in its place.

    Returns:
        The tree.
    """
    names: dict[str, Tensor] = {}

    def keep(path: str, tensor: Tensor) -> Tensor:
        name = _name(path, names)
        names[name] = tensor
        return read(name, tensor)

    return to_serialisable(skeleton, keep)


def _name(path: str, taken: Mapping[str, Tensor]) -> str:
    name = path.removeprefix("$.")
    while name in taken:  # such as of {"a": {"b": ...}, "a.b": ...}
        name += "~"
    return name
