"""Tiny policies that train in milliseconds, for runs that test something else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

OBS_DIM, ACTION_DIM = 6, 2
"""Dimensions of the states and actions that these policies take."""


class TinyPolicy(nn.Module):
    """A dropout network with a half-precision buffer; its first weights are always the same.

    Args:
        hidden: Width of its hidden layer.
        dropout: Fraction of hidden units that are dropped in training.
    """

    def __init__(self, hidden: int = 8, dropout: float = 0.2) -> None:
        super().__init__()
        self.hparams = {"hidden": hidden, "dropout": dropout}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net = nn.Sequential(
                nn.Linear(OBS_DIM, hidden),
                nn.Tanh(),
                nn.Dropout(dropout),
                nn.Linear(hidden, ACTION_DIM),
            )
        self.register_buffer("scale", torch.full((), 0.5, dtype=torch.bfloat16))

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the squared error `[]` of a batch."""
        return _squared_error(self.net(batch["observations"]["state"]), batch)

    @torch.no_grad()
    def predict(self, obs: Any) -> Any:
        """Return actions `[A]` or `[B, A]`."""
        table = obs if isinstance(obs, Mapping) else {"state": obs}
        actions: Tensor = self.net(torch.as_tensor(table["state"], dtype=torch.float32))
        return actions.numpy()


class TiedPolicy(nn.Module):
    """A network with dropout, batch norm (float and integer buffers) and a tied weight.

    Its first weights are always the same. Extensions that average, freeze or export weights must
    handle all of it.
    """

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.encoder = nn.Sequential(nn.Linear(OBS_DIM, 8), nn.BatchNorm1d(8), nn.Tanh())
            self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(8, ACTION_DIM))
        self.tied = self.head[1]

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the squared error `[]` of a batch."""
        features = self.encoder(batch["observations"]["state"])
        return _squared_error(self.tied(self.head[0](features)), batch)


def _squared_error(actions: Tensor, batch: Mapping[str, Any]) -> dict[str, Tensor]:
    return {"loss": (actions - batch["actions"]).square().mean()}
