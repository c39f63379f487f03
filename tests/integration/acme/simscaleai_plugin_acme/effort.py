"""How large the actions are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import Mean
from simscaleai_plugin_acme.options import EffortOptions


class Effort:
    """Mean size of the action at random states, the same ones at every evaluation."""

    def __init__(self, config: TrainConfig, options: EffortOptions | None = None) -> None:
        self._seed = config.seed
        self._states = (options or EffortOptions()).states

    def __call__(self, policy: Any) -> Mapping[str, Mean]:
        """Return ``effort`` [unitless]."""
        generator = torch.Generator().manual_seed(self._seed)
        sizes = zip(policy.hparams["state_keys"], policy.hparams["dims"], strict=True)
        states = {k: torch.randn(self._states, d, generator=generator) for k, d in sizes}
        actions = torch.as_tensor(policy.predict(states))
        return {"effort": Mean(float(actions.abs().sum()), actions.numel())}
