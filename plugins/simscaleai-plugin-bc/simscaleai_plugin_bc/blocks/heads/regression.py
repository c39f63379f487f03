"""Regression to one chunk of actions."""

from __future__ import annotations

import math

from torch import Tensor

from simscaleai_plugin_bc.blocks.heads.base import Head, HeadSizes, check_loss, losses, mlp


class RegressionHead(Head):
    """An MLP from the features to the chunk.

    Where demonstrations disagree it learns their mean (``mse``) or median (``l1``).

    Args:
        sizes: Sizes F, T and A.
        hidden_dim: Width of the hidden layers.
        n_layers: Number of hidden layers; 0 is one linear layer.
        dropout: Fraction of hidden units that are dropped in training.
        loss_type: ``"mse"``, ``"l1"`` or ``"huber"``.

    Raises:
        ConfigError: If the loss is unknown.

    Source:
        Pomerleau 1991 (behavioural cloning); chunks after Zhao et al. 2023 (arXiv:2304.13705).
    """

    def __init__(
        self,
        sizes: HeadSizes,
        *,
        hidden_dim: int = 256,
        n_layers: int = 0,
        dropout: float = 0.0,
        loss_type: str = "mse",
    ) -> None:
        super().__init__()
        self._shape = sizes.chunk
        self._loss_type = check_loss(loss_type)
        out_dim = math.prod(sizes.chunk)
        self.net = mlp(sizes.features, hidden_dim, out_dim, n_layers=n_layers, dropout=dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Return chunks `[B, T, A]` for features `[B, F]`."""
        chunks: Tensor = self.net(features).unflatten(-1, self._shape)
        return chunks

    def loss(
        self, features: Tensor, actions: Tensor, is_pad: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the mean ``loss`` `[]` over what is not padding, and that of each sample."""
        return losses(self._loss_type, self(features), actions, is_pad)

    def sample(self, features: Tensor, noise: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Return chunks `[B, T, A]` for features `[B, F]`; `noise` `[]` is not used."""
        chunks: Tensor = self(features)
        return chunks
