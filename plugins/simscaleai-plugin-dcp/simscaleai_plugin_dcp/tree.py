"""A checkpoint's tree as a skeleton and flat tensors, and back.

The skeleton is the tree with a meta tensor, which has dtype and shape but no data, in the place of
each tensor. Names follow from where a tensor stands, so that they need not be stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from simscaleai_core.checkpoint.serialisation import to_serialisable
from simscaleai_core.contracts import StateDict

EQUAL_ON_ALL_RANKS = ("model_state_dict.", "optimizer_state_dict.")
"""Beginnings of the names of tensors that any rank may write; of all others rank 0's count."""


def split(tree: StateDict) -> tuple[StateDict, dict[str, Tensor]]:
    """Return the skeleton of a tree, and its tensors by name."""
    tensors: dict[str, Tensor] = {}

    def keep(path: str, tensor: Tensor) -> Tensor:
        tensors[_name(path, tensors)] = tensor.detach()
        return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")

    return to_serialisable(tree, keep), tensors


def fill(skeleton: StateDict) -> tuple[StateDict, dict[str, Tensor]]:
    """Return a tree with memory for each tensor of its skeleton, and these tensors by name."""
    tensors: dict[str, Tensor] = {}

    def keep(path: str, tensor: Tensor) -> Tensor:
        memory = torch.empty(tensor.shape, dtype=tensor.dtype)
        tensors[_name(path, tensors)] = memory
        return memory

    return to_serialisable(skeleton, keep), tensors


def check_skeleton(skeleton: Any, *, limit_bytes: int) -> None:
    """Refuse a skeleton that would grow beyond what its checkpoint can hold.

    Args:
        skeleton: What was read.
        limit_bytes: Size of all tensor files [bytes].

    Raises:
        ValueError: If a container stands in two places, as those of a file that unfolds to a tree
            of any size do, or if its tensors are larger than the files.
    """
    seen: set[int] = set()
    waiting, total = [skeleton], 0
    while waiting:
        node = waiting.pop()
        if isinstance(node, Tensor):
            total += node.numel() * node.itemsize
        elif isinstance(node, (Mapping, list, tuple)) and node:
            if id(node) in seen:
                raise ValueError("its tree holds one container in two places")
            seen.add(id(node))
            waiting += node.values() if isinstance(node, Mapping) else node
    if total > limit_bytes:
        raise ValueError(f"its tree has {total} bytes of tensors, its files {limit_bytes}")


def _name(path: str, taken: Mapping[str, Tensor]) -> str:
    name = path.removeprefix("$.")
    while name in taken:  # such as of {"a": {"b": ...}, "a.b": ...}
        name += "~"
    return name
