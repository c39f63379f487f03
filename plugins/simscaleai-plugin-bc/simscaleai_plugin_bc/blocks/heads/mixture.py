"""A mixture of Gaussians over chunks: one mode per way of doing it.

B: samples, F: dimensions of the features, T: timesteps of a chunk, A: dimensions of an action,
M: modes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from simscaleai_plugin_bc.blocks.heads.base import Head, HeadSizes, mlp


class MixtureHead(Head):
    """The likelihood of a chunk under a mixture; acting takes the mean of the likeliest mode.

    Args:
        sizes: Sizes F, T and A.
        hidden_dim: Width of the hidden layers.
        n_layers: Number of hidden layers.
        dropout: Fraction of hidden units that are dropped in training.
        num_modes: Number of modes M.
        least_std: Floor of each standard deviation [normalised action]; a low one lets a few exact
            labels, such as saturated actions, outweigh all others.

    Source:
        Bishop 1994 (mixture density networks); for actions Mandlekar et al. 2021
        (arXiv:2108.03298), with the most likely mode instead of a draw.
    """

    keeps_plan: bool = True

    def __init__(
        self,
        sizes: HeadSizes,
        *,
        hidden_dim: int = 256,
        n_layers: int = 3,
        dropout: float = 0.0,
        num_modes: int = 5,
        least_std: float = 0.05,
    ) -> None:
        super().__init__()
        self._shape = (num_modes, *sizes.chunk)
        self._least_std = least_std
        out_dim = num_modes * (1 + 2 * math.prod(sizes.chunk))
        self.net = mlp(sizes.features, hidden_dim, out_dim, n_layers=n_layers, dropout=dropout)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the mixture for features `[B, F]`.

        Returns:
            Log probabilities `[B, M]`, means `[B, M, T, A]` and standard deviations `[B, M, T, A]`.
        """
        out = self.net(features).float()
        size = math.prod(self._shape)
        logits, mean, raw = out.split([self._shape[0], size, size], dim=-1)
        std = F.softplus(raw) + self._least_std
        shape = (len(features), *self._shape)
        return logits.log_softmax(dim=-1), mean.reshape(shape), std.reshape(shape)

    def loss(
        self, features: Tensor, actions: Tensor, is_pad: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the mean negative log likelihood per timestep that counts.

        It is the ``loss`` `[]` of the batch, and the ``sample_loss`` `[B]` of each sample.
        """
        log_weight, mean, std = self(features)
        target = actions[:, None].float()
        each = -0.5 * ((target - mean) / std).square() - std.log() - 0.5 * math.log(2 * math.pi)
        per_step = each.sum(dim=-1)  # [B, M, T]
        num_steps: Tensor | int = per_step[:, 0].numel()
        per_sample: Tensor | int = per_step.shape[-1]
        if is_pad is not None:
            per_step = torch.where(is_pad[:, None], 0.0, per_step)
            num_steps = (~is_pad).sum().clamp(min=1)
            per_sample = (~is_pad).sum(dim=-1).clamp(min=1)
        likelihood = torch.logsumexp(log_weight + per_step.sum(dim=-1), dim=-1)
        sample_loss = -likelihood.detach() / per_sample
        return {"loss": -likelihood.sum() / num_steps, "sample_loss": sample_loss}

    def sample(
        self,
        features: Tensor,
        noise: Tensor | None = None,  # noqa: ARG002
        plan: Tensor | None = None,
        left: int = 0,
    ) -> Tensor:
        """Return the mean of the likeliest mode `[B, T, A]` for features `[B, F]`.

        With a plan `[B, T, A]` of which `left` steps are left, it is the likeliest given that plan.
        `noise` `[]` is not used.
        """
        likelihood, mean, std = self(features)
        if plan is not None:
            error = (plan[:, None, :left] - mean[:, :, :left]) / std[:, :, :left]
            each = -0.5 * error.square() - std[:, :, :left].log()
            likelihood = likelihood + each.sum(dim=(-2, -1))
        chosen = likelihood.argmax(dim=-1)
        likeliest: Tensor = mean[torch.arange(len(mean), device=mean.device), chosen]
        return likeliest
