"""Mean loss on held-out data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from simscaleai_core.contracts import Mean, Strategy
from simscaleai_core.data.batches import sample_count, to_device
from simscaleai_core.data.feed import eval_batches


class HeldOutLoss:
    """Mean of every scalar that the policy returns, weighted by sample count.

    The loader's batches are shared out over the strategy's ranks.
    """

    def __init__(self, loader: Any, strategy: Strategy, *, seed: int = 0) -> None:
        self._loader = loader
        self._seed = seed
        self._strategy = strategy

    def __call__(self, policy: nn.Module) -> Mapping[str, Mean]:
        """Return (sum, count) of each scalar, ``loss`` among them."""
        totals: dict[str, float] = {}
        count = 0
        strategy = self._strategy
        batches = eval_batches(
            self._loader, seed=self._seed, rank=strategy.rank, world_size=strategy.world_size
        )
        for batch in batches:
            size = sample_count(batch)
            for name, value in policy(to_device(batch, strategy.device)).items():
                if isinstance(value, torch.Tensor) and value.ndim == 0:
                    totals[name] = totals.get(name, 0.0) + float(value) * size
            count += size
        return {name: Mean(total, count) for name, total in totals.items()}
