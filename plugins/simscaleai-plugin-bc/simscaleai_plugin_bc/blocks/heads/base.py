"""The interface of every head, and losses that leave padded actions out.

B: samples, F: dimensions of the features, T: timesteps of a chunk, A: dimensions of an action.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_bc.blocks.options import LOSSES

_TRUST = 0.8


class HeadSizes(NamedTuple):
    """What every head is built for."""

    features: int
    """Dimensions F of the features."""
    horizon: int
    """Timesteps T of a chunk."""
    action_dim: int
    """Dimensions A of an action."""

    @property
    def chunk(self) -> tuple[int, int]:
        """Shape ``(T, A)`` of a chunk."""
        return self.horizon, self.action_dim


class Head(nn.Module):
    """A network from features to chunks of normalised actions, with its loss."""

    noise_shape: tuple[int, ...] | None = None
    """Shape of the noise that one chunk is sampled from; None if the head draws nothing."""
    clips: bool = False
    """Whether no action outside [-1, 1] is ever sampled."""
    keeps_plan: bool = False
    """Whether `sample` takes what is left of the last chunk."""

    def loss(
        self, features: Tensor, actions: Tensor, is_pad: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return ``loss`` `[]`, perhaps ``sample_loss`` `[B]`, and further scalars to log.

        Args:
            features: What the actions depend on `[B, F]`.
            actions: The chunks to imitate, normalised `[B, T, A]`.
            is_pad: Where an action lies outside its episode and does not count, bool `[B, T]`.
        """
        raise NotImplementedError

    def sample(self, features: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return chunks `[B, T, A]` for features `[B, F]`.

        Without `noise` `[B, *noise_shape]`, it is drawn; a head without `noise_shape` ignores it.
        A head that keeps plans takes two more: the last chunk, moved to the present step
        `[B, T, A]`, and how many of its steps are left; None and 0 if there is no chunk.
        """
        raise NotImplementedError

    def noise_like(self, features: Tensor) -> Tensor:
        """Draw noise `[B, *noise_shape]` for features `[B, F]`, on their device."""
        return torch.randn(len(features), *(self.noise_shape or ()), device=features.device)


def steps_done(left: int, horizon: int, num_steps: int) -> int:
    """Return how many steps of sampling a plan takes the place of.

    Args:
        left: Steps of the plan that are left.
        horizon: Timesteps T of a chunk.
        num_steps: Steps of sampling from noise alone.

    Returns:
        At least 0, and less than `num_steps`.

    Source:
        Ours: 0.8 for a whole plan, and in proportion for less. On a pick-and-place task, replanned
        at every step, 0.6 to 0.8 of the steps succeeded in 99 to 100% of 200 episodes, 0.3 in 54%.
    """
    return min(round(_TRUST * left / horizon * num_steps), num_steps - 1)


def check_loss(kind: str) -> str:
    """Return the name of a loss.

    Raises:
        ConfigError: If there is no such loss.
    """
    if kind not in LOSSES:
        raise ConfigError(f"field 'loss_type': expected one of {', '.join(LOSSES)}, got {kind!r}")
    return kind


def losses(
    kind: str,
    predicted: Tensor,
    target: Tensor,
    is_pad: Tensor | None = None,
    num_samples: int | None = None,
) -> dict[str, Tensor]:
    """Return the mean loss of a batch and of each of its samples.

    Args:
        kind: ``"mse"``, ``"l1"`` or ``"huber"``.
        predicted: Predictions `[N, ..., A]`.
        target: Targets `[N, ..., A]`.
        is_pad: What does not count, bool `[N, ...]`; None counts everything.
        num_samples: Samples B that the N rows are of, one after the other; N if None.

    Returns:
        ``loss`` `[]`, the mean over all that counts, and ``sample_loss`` `[B]`, detached; 0 where
        nothing does.
    """
    if is_pad is None:
        loss = _loss(kind, predicted, target, "mean")
        each = _loss(kind, predicted.detach(), target, "none").mean(dim=-1)
    else:
        each = _loss(kind, predicted, target, "none").mean(dim=-1)
        loss = masked_mean(each, is_pad)
    return {"loss": loss, "sample_loss": sample_means(each, is_pad, num_samples)}


def sample_means(values: Tensor, is_pad: Tensor | None, num_samples: int | None = None) -> Tensor:
    """Return the mean of each sample.

    Args:
        values: Values `[N, ...]`.
        is_pad: What does not count, bool `[N, ...]`; None counts everything.
        num_samples: Samples B that the N rows are of, one after the other; N if None.

    Returns:
        The means `[B]`, detached; 0 where nothing counts.
    """
    shape = (len(values) if num_samples is None else num_samples, -1)
    values = values.detach().reshape(shape)
    if is_pad is None:
        return values.mean(dim=1) if values.shape[1] > 1 else values[:, 0]
    is_pad = is_pad.reshape(shape)
    counts = is_pad.shape[1] - is_pad.sum(dim=1)
    return torch.where(is_pad, 0.0, values).sum(dim=1) / counts.clamp(min=1)


def _loss(kind: str, predicted: Tensor, target: Tensor, reduction: str) -> Tensor:
    if kind == "l1":
        return F.l1_loss(predicted, target, reduction=reduction)
    if kind == "huber":
        return F.huber_loss(predicted, target, reduction=reduction)
    return F.mse_loss(predicted, target, reduction=reduction)


def masked_mean(values: Tensor, is_pad: Tensor) -> Tensor:
    """Return the mean `[]` of `values` `[...]` where `is_pad` `[...]` is False."""
    counts = (~is_pad).to(values.dtype)
    return torch.where(is_pad, 0.0, values).sum() / counts.sum().clamp(min=1)


def held_actions(actions: Tensor, is_pad: Tensor | None) -> Tensor:
    """Replace padding by the action before it, so that what padding holds cannot matter.

    Args:
        actions: Chunks `[B, T, A]`.
        is_pad: Which actions are padding, bool `[B, T]`.

    Returns:
        Chunks `[B, T, A]`; padding before the first action becomes that action.
    """
    if is_pad is None:
        return actions
    steps = torch.arange(actions.shape[1], device=actions.device)
    last = torch.where(is_pad, -1, steps).cummax(dim=1).values
    first = (~is_pad).int().argmax(dim=1, keepdim=True)
    source = torch.where(last < 0, first, last)
    return actions.gather(1, source[..., None].expand_as(actions))


def mlp(
    in_dim: int, hidden_dim: int, out_dim: int, *, n_layers: int, dropout: float = 0.0
) -> nn.Sequential:
    """Build hidden layers with GELU between them, then a linear layer.

    Args:
        in_dim: Dimensions of the input.
        hidden_dim: Width of the hidden layers.
        out_dim: Dimensions of the output.
        n_layers: Number of hidden layers; 0 is one linear layer.
        dropout: Fraction of hidden units that are dropped in training.

    Returns:
        The layers.
    """
    layers: list[nn.Module] = []
    width = in_dim
    for _ in range(n_layers):
        layers += [nn.Linear(width, hidden_dim), nn.GELU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
        width = hidden_dim
    return nn.Sequential(*layers, nn.Linear(width, out_dim))
