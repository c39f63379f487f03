"""Noise that is a function of the sample's key."""

from __future__ import annotations

from typing import Any

import torch

from simscaleai_core.config import TrainConfig
from simscaleai_plugin_jitter.options import JitterOptions


class Jitter:
    """Adds normal noise to each low-dimensional observation `[D]` or `[T, D]`; images stay."""

    only_training = True

    def __init__(self, config: TrainConfig, options: JitterOptions) -> None:
        del config
        self._std = options.std

    def __call__(self, sample: dict[str, Any], key: int) -> dict[str, Any]:
        """Return a new sample."""
        generator = torch.Generator().manual_seed(key)
        observations = {
            name: value + self._std * torch.randn(value.shape, generator=generator)
            if value.ndim < 3
            else value
            for name, value in sample["observations"].items()
        }
        return {**sample, "observations": observations}
