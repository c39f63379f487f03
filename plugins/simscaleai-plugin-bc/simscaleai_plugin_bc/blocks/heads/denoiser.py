"""A network from a noisy chunk, its noise level and the features to a chunk.

B: samples, F: dimensions of the features, T: timesteps of a chunk, A: dimensions of an action.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simscaleai_plugin_bc.blocks.heads.base import HeadSizes

_LEVEL_DIM = 64


class Denoiser(nn.Module):
    """Residual blocks over the flattened chunk, modulated by the features and the noise level.

    Args:
        sizes: Sizes F, T and A.
        hidden_dim: Width of the blocks.
        n_layers: Number of blocks.

    Source:
        Ours: pre-normalised residual blocks with scale and shift from the condition, as in Perez
        et al. 2018 (FiLM, arXiv:1709.07871); noise level as in Vaswani et al. 2017, section 3.5.
    """

    def __init__(self, sizes: HeadSizes, *, hidden_dim: int, n_layers: int) -> None:
        super().__init__()
        size = math.prod(sizes.chunk)
        self.level = nn.Linear(_LEVEL_DIM, hidden_dim)
        self.features = nn.Linear(sizes.features, hidden_dim)
        self.enter = nn.Linear(size, hidden_dim)
        self.blocks = nn.ModuleList(_Block(hidden_dim) for _ in range(n_layers))
        self.norm = nn.LayerNorm(hidden_dim)
        self.leave = nn.Linear(hidden_dim, size)

    def forward(self, chunks: Tensor, level: Tensor, features: Tensor) -> Tensor:
        """Return what is predicted for each entry of the chunk.

        Args:
            chunks: Noisy chunks `[B, T, A]`.
            level: Noise level `[B]` in [0, 1].
            features: Features `[B, F]`.

        Returns:
            Predictions, float32 `[B, T, A]`.
        """
        condition = F.gelu(self.level(_waves(level)) + self.features(features))
        hidden = self.enter(chunks.flatten(1))
        for block in self.blocks:
            hidden = block(hidden, condition)
        out: Tensor = self.leave(self.norm(hidden)).float().reshape(chunks.shape)
        return out


class _Block(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.modulate = nn.Linear(dim, 2 * dim)
        self.widen = nn.Linear(dim, 2 * dim)
        self.narrow = nn.Linear(2 * dim, dim)

    def forward(self, hidden: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.modulate(condition).chunk(2, dim=-1)
        inner = self.norm(hidden) * (1 + scale) + shift
        out: Tensor = hidden + self.narrow(F.gelu(self.widen(inner)))
        return out


def _waves(level: Tensor) -> Tensor:
    """Return sines and cosines `[B, 64]` of a level `[B]` in [0, 1]."""
    half = _LEVEL_DIM // 2
    steps = torch.arange(half, device=level.device, dtype=torch.float32)
    angles = 1000.0 * level.float()[:, None] * torch.exp(-math.log(10_000.0) / (half - 1) * steps)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
