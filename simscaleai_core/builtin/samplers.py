"""The orders of samples that the core brings. See `simscaleai_core.contracts.Sampler`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from simscaleai_core.config import TrainConfig
from simscaleai_core.data.mixture import Mixture, mixed_order
from simscaleai_core.errors import ConfigError
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


class Proportions:
    """Samples of several datasets in the proportions of their weights; the sampler ``mixture``."""

    def __init__(self, config: TrainConfig, options: None = None) -> None:
        del config, options

    def order(self, data: Any, seed: int, epoch: int) -> Tensor:
        """Return indices `[N]`; see `simscaleai_core.data.mixture.mixed_order`.

        Raises:
            ConfigError: If the data is not a `Mixture`.
        """
        if not isinstance(data, Mixture):
            raise ConfigError(
                f"sampler 'mixture': expected several datasets, got {type(data).__name__}. Give "
                "--dataset several times, or choose another sampler."
            )
        return mixed_order(data.sizes, data.weights, seed, epoch)
