"""A linear policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from simscaleai_core.contracts import Batch, DataSpec


class LinearPolicy(nn.Module):
    """An affine map from the state to the action."""

    def __init__(
        self, state_keys: Sequence[str], dims: Sequence[int], action_dim: int,
        gain: float = 1.0, squash: str = "none",
    ) -> None:  # fmt: skip
        super().__init__()
        self.hparams = {
            "state_keys": list(state_keys),
            "dims": list(dims),
            "action_dim": action_dim,
            "gain": gain,
            "squash": squash,
        }
        self.linear = nn.Linear(sum(dims), action_dim)

    @classmethod
    def from_data(cls, data: DataSpec, **options: Any) -> LinearPolicy:
        """Build the policy for a dataset."""
        dims = [data.observations[key][0] for key in data.state_keys]
        return cls(data.state_keys, dims, data.action_dim, **options)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss, and the error of the gripper besides."""
        error = self._act(batch["observations"]) - batch["actions"]
        return {"loss": error.square().mean(), "gripper_error": error[:, -1].abs().mean()}

    @torch.no_grad()
    def predict(self, obs: Any) -> Any:
        """Return actions `[A]` or `[B, A]` as NumPy."""
        tensors = {k: torch.as_tensor(np.asarray(obs[k])).float() for k in self._keys}
        return self._act(tensors).numpy()

    @property
    def _keys(self) -> list[str]:
        keys: list[str] = self.hparams["state_keys"]  # type: ignore[assignment]
        return keys

    def _act(self, observations: Any) -> Tensor:
        action = self.linear(torch.cat([observations[k] for k in self._keys], dim=-1))
        action = action * self.hparams["gain"]
        return torch.tanh(action) if self.hparams["squash"] == "tanh" else action
