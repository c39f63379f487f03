"""Diffusion: chunks are denoised from noise, in few deterministic steps.

B: samples, F: dimensions of the features, T: timesteps of a chunk, A: dimensions of an action,
K: noise levels in training, S: steps in sampling.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_bc.blocks.heads.base import Head, HeadSizes, held_actions, losses, steps_done
from simscaleai_plugin_bc.blocks.heads.denoiser import Denoiser

_LARGEST_BETA = 0.999


def cosine_signal(num_levels: int) -> Tensor:
    """Return how much of the signal's variance is left at each noise level.

    Args:
        num_levels: Noise levels K.

    Returns:
        The products of (1 - beta), decreasing `[K]`.

    Source:
        Nichol and Dhariwal 2021 (arXiv:2102.09672), eq. 17, with s = 0.008 and beta at most 0.999.
    """
    steps = torch.arange(num_levels + 1, dtype=torch.float64) / num_levels
    ideal = torch.cos((steps + 0.008) / 1.008 * math.pi / 2) ** 2
    betas = (1 - ideal[1:] / ideal[:-1]).clamp(max=_LARGEST_BETA)
    return (1 - betas).cumprod(0).float()


class DiffusionHead(Head):
    """Learns to denoise chunks; samples by removing noise step by step.

    Actions have to lie in about [-1, 1]: at every step of sampling, the estimate of the chunk is
    clipped to that range.

    Args:
        sizes: Sizes F, T and A.
        hidden_dim: Width of the denoiser.
        n_layers: Residual blocks of the denoiser.
        num_levels: Noise levels K in training.
        sample_steps: Steps S in sampling, at most K.

    Raises:
        ConfigError: If there are more steps than levels.

    Source:
        Chi et al. 2023 (diffusion policy, arXiv:2303.04137); training Ho et al. 2020 (DDPM,
        arXiv:2006.11239), section 3.2, with the target v of Salimans and Ho 2022
        (arXiv:2202.00512), appendix D; sampling Song et al. 2021 (DDIM, arXiv:2010.02502), eq. 12
        with sigma = 0.
    """

    clips: bool = True
    keeps_plan: bool = True
    signal: Tensor
    levels: Tensor

    def __init__(
        self,
        sizes: HeadSizes,
        *,
        hidden_dim: int = 256,
        n_layers: int = 3,
        num_levels: int = 100,
        sample_steps: int = 10,
    ) -> None:
        super().__init__()
        if not 1 <= sample_steps <= num_levels:
            raise ConfigError(
                f"field 'sample_steps': expected 1 to num_levels={num_levels}, got {sample_steps}"
            )
        self.noise_shape = sizes.chunk
        self._num_levels = num_levels
        self.denoiser = Denoiser(sizes, hidden_dim=hidden_dim, n_layers=n_layers)
        self.register_buffer("signal", cosine_signal(num_levels), persistent=False)
        levels = torch.linspace(num_levels - 1, 0, sample_steps).round().long()
        self.register_buffer("levels", levels, persistent=False)

    def loss(
        self, features: Tensor, actions: Tensor, is_pad: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the mean squared error of v at random noise levels: ``loss`` `[]`, and each's."""
        chunks = held_actions(actions, is_pad)
        level = torch.randint(self._num_levels, (len(chunks),), device=chunks.device)
        signal = self.signal[level][:, None, None]
        noise = torch.randn_like(chunks)
        noisy = signal.sqrt() * chunks + (1 - signal).sqrt() * noise
        target = signal.sqrt() * noise - (1 - signal).sqrt() * chunks
        return losses("mse", self._v(noisy, level, features), target, is_pad)

    def sample(
        self,
        features: Tensor,
        noise: Tensor | None = None,
        plan: Tensor | None = None,
        left: int = 0,
    ) -> Tensor:
        """Return chunks `[B, T, A]` for features `[B, F]` from noise `[B, T, A]`.

        From a plan `[B, T, A]` of which `left` steps are left, sampling begins with that plan and
        as much of the noise as belongs to the step (Meng et al. 2022, SDEdit, arXiv:2108.01073,
        algorithm 1).
        """
        if noise is None:
            noise = self.noise_like(features)
        chunks, begin = noise, 0
        if plan is not None:
            begin = steps_done(left, plan.shape[1], len(self.levels))
            signal = self.signal[self.levels[begin]]
            chunks = signal.sqrt() * plan.clamp(-1, 1) + (1 - signal).sqrt() * noise
        after = torch.cat([self.signal[self.levels[1:]], self.signal.new_ones(1)])
        for step in range(begin, len(self.levels)):
            level = self.levels[step]
            before = self.signal[level]
            v = self._v(chunks, level.expand(len(chunks)), features)
            clean = (before.sqrt() * chunks - (1 - before).sqrt() * v).clamp(-1, 1)
            noise = (chunks - before.sqrt() * clean) / (1 - before).sqrt()
            chunks = after[step].sqrt() * clean + (1 - after[step]).sqrt() * noise
        return chunks

    def _v(self, chunks: Tensor, level: Tensor, features: Tensor) -> Tensor:
        v: Tensor = self.denoiser(chunks, level.float() / self._num_levels, features)
        return v
