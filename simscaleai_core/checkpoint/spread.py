"""Tensors of which every rank holds a part, as torch's ``fully_shard`` makes them of parameters."""

from __future__ import annotations

from typing import Any, TypeGuard

from torch import Tensor


def is_spread(value: Any) -> TypeGuard[Any]:
    """Return whether a value is a ``DTensor``, whose module takes long to import."""
    return isinstance(value, Tensor) and hasattr(value, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor `[...]` on every rank; each must call it."""
    return tensor.full_tensor() if is_spread(tensor) else tensor


def part_of(tensor: Tensor, like: Any) -> Tensor:
    """Return a whole tensor `[...]` spread as another of its shape; nothing is communicated."""
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = like.device_mesh, like.placements
    return distribute_tensor(tensor.to(like.device), mesh, placements, src_data_rank=None)
