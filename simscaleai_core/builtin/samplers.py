"""The orders of samples that the core brings. See `simscaleai_core.contracts.Sampler`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from simscaleai_core.config import TrainConfig
from simscaleai_core.seeding import stream_seed


class Shuffle:
    """Every sample once an epoch, in an order of the seed and the epoch."""

    def __init__(self, config: TrainConfig, options: None = None) -> None:
        del config, options

    def order(self, data: Any, seed: int, epoch: int) -> Tensor:
        """Return a random permutation of the samples `[N]`."""
        generator = torch.Generator().manual_seed(stream_seed(seed, "order", epoch))
        return torch.randperm(len(data), generator=generator)


class Sequential:
    """Every sample once an epoch, in the order of the data."""

    def __init__(self, config: TrainConfig, options: None = None) -> None:
        del config, options

    def order(self, data: Any, seed: int, epoch: int) -> range:
        """Return the samples as they come."""
        del seed, epoch
        return range(len(data))
