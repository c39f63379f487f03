"""Mean loss on held-out data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from simscaleai_core.batches import sample_count, to_device
from simscaleai_core.contracts import Mean
from simscaleai_core.feed import eval_batches


class HeldOutLoss:
    """Mean of every scalar that the policy returns, weighted by sample count.

    Args:
        loader: The evaluation loader, read through once per evaluation.
        device: Where the policy computes.
    """

    def __init__(self, loader: Any, device: torch.device) -> None:
        self._loader = loader
        self._device = device

    def __call__(self, policy: nn.Module) -> Mapping[str, Mean]:
        """Return (sum, count) of each scalar, ``loss`` among them."""
        totals: dict[str, float] = {}
        count = 0
        for batch in eval_batches(self._loader):
            size = sample_count(batch)
            for name, value in policy(to_device(batch, self._device)).items():
                if isinstance(value, torch.Tensor) and value.ndim == 0:
                    totals[name] = totals.get(name, 0.0) + float(value) * size
            count += size
        return {name: Mean(total, count) for name, total in totals.items()}
