"""An actor, and a critic that foretells its errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from simscaleai_core.contracts import Batch, DataSpec


class ActorCritic(nn.Module):
    """Imitates actions, most where its error is larger than its critic expects.

    Args:
        state_keys: Low-dimensional observation keys, in order.
        state_dim: Their dimensions in sum.
        action_dim: Dimensions of an action.
        hidden_dim: Width of both hidden layers.
    """

    def __init__(
        self, state_keys: tuple[str, ...], state_dim: int, action_dim: int, hidden_dim: int = 64
    ) -> None:
        super().__init__()
        self.hparams: dict[str, Any] = {
            "state_keys": tuple(state_keys),
            "state_dim": state_dim,
            "action_dim": action_dim,
            "hidden_dim": hidden_dim,
        }
        self.actor = _network(state_dim, hidden_dim, action_dim)
        self.critic = _network(state_dim, hidden_dim, 1)

    @classmethod
    def from_data(cls, data: DataSpec, **options: Any) -> ActorCritic:
        """Build the policy for the data."""
        size = sum(data.observations[key][0] for key in data.state_keys)
        return cls(data.state_keys, size, data.action_dim, **options)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return what the run's optimiser trains: the actor."""
        return [{"params": list(self.actor.parameters())}]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return both losses and their sum; neither part gets a gradient from the other's."""
        state = self._state(batch["observations"])
        error = (self.actor(state) - batch["actions"]).square().mean(-1)  # [B]
        expected = self.critic(state).squeeze(-1)  # [B]
        weight = torch.sigmoid(error.detach() - expected.detach())
        actor_loss = (weight * error).mean()
        critic_loss = (expected - error.detach()).square().mean()
        return {
            "loss": actor_loss + critic_loss,
            "actor_loss": actor_loss.detach(),
            "critic_loss": critic_loss.detach(),
        }

    @torch.no_grad()
    def predict(self, obs: Mapping[str, Any]) -> Tensor:
        """Return actions `[A]` or `[B, A]` for observations `[D]` or `[B, D]` of each key."""
        action: Tensor = self.actor(self._state(obs))
        return action

    def _state(self, observations: Mapping[str, Any]) -> Tensor:
        parts = [torch.as_tensor(observations[key]).float() for key in self.hparams["state_keys"]]
        return torch.cat(parts, dim=-1)


def _network(inputs: int, hidden: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs))
