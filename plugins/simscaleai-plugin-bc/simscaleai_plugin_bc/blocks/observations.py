"""Observations by key, as a policy takes them in `predict`.

B: samples, M: samples that are selected, D: dimensions of a state key, C: channels, H: rows,
W: columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from attrs import frozen
from torch import Tensor

from simscaleai_core.errors import DataError


@frozen
class ObservationBatch:
    """Observations as batched tensors, and the form in which the actions are returned."""

    tensors: dict[str, Tensor]
    """float32 on the policy's device, batched: state keys `[B, D]`, images `[B, C, H, W]`."""
    is_single: bool
    """Whether it was one observation without a batch dimension."""
    is_numpy: bool
    """Whether the actions are returned as NumPy."""

    @property
    def size(self) -> int:
        """Number of observations B."""
        return len(next(iter(self.tensors.values())))

    def select(self, indices: Any) -> dict[str, Tensor]:
        """Return the tensors of some of the observations; `indices` are int `[M]`."""
        if len(indices) == self.size:
            return self.tensors
        return {k: v[torch.as_tensor(indices, device=v.device)] for k, v in self.tensors.items()}

    def to_output(self, actions: Any) -> Any:
        """Return actions `[B, ...]` in the form of the observations.

        A single observation gets actions without the batch dimension, NumPy gets NumPy.
        """
        if self.is_single:
            actions = actions[0]
        if self.is_numpy:
            return actions.cpu().numpy() if isinstance(actions, Tensor) else actions
        device = next(iter(self.tensors.values())).device
        return torch.as_tensor(actions, device=device)


def key_dim(shape: tuple[int, ...]) -> int:
    """Return the dimensions of a low-dimensional key of this shape."""
    return shape[0] if shape else 1


def missing_key(key: str, found: Mapping[str, Any]) -> DataError:
    """Return the error that names a missing key and what was found instead."""
    return DataError(
        f"observation key {key!r} is missing: expected by the policy, found "
        f"{', '.join(sorted(found)) or 'none'}. Give it, or build the policy for other keys.",
        key=key,
    )
