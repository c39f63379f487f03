"""Flow matching: chunks flow from noise along a learned velocity.

B: samples, F: dimensions of the features, T: timesteps of a chunk, A: dimensions of an action.
"""

from __future__ import annotations

import torch
from torch import Tensor

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_bc.blocks.heads.base import Head, HeadSizes, held_actions, losses, steps_done
from simscaleai_plugin_bc.blocks.heads.denoiser import Denoiser


class FlowHead(Head):
    """Learns the velocity of straight paths from noise (time 0) to chunks (time 1).

    Args:
        sizes: Sizes F, T and A.
        hidden_dim: Width of the network.
        n_layers: Residual blocks of the network.
        sample_steps: Euler steps in sampling.

    Raises:
        ConfigError: If there is no step.

    Source:
        Lipman et al. 2023 (flow matching, arXiv:2210.02747), eq. 22 and 23 with sigma_min = 0;
        for actions Black et al. 2024 (pi0, arXiv:2410.24164), here with uniform times.
    """

    keeps_plan: bool = True

    def __init__(
        self, sizes: HeadSizes, *, hidden_dim: int = 256, n_layers: int = 3, sample_steps: int = 10
    ) -> None:
        super().__init__()
        if sample_steps < 1:
            raise ConfigError(f"field 'sample_steps': expected at least 1, got {sample_steps}")
        self.noise_shape = sizes.chunk
        self._sample_steps = sample_steps
        self.velocity = Denoiser(sizes, hidden_dim=hidden_dim, n_layers=n_layers)

    def loss(
        self, features: Tensor, actions: Tensor, is_pad: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the mean squared error of the velocity, ``loss`` `[]`, and that of each sample."""
        chunks = held_actions(actions, is_pad)
        time = torch.rand(len(chunks), device=chunks.device)
        noise = torch.randn_like(chunks)
        predicted = self.velocity(torch.lerp(noise, chunks, time[:, None, None]), time, features)
        return losses("mse", predicted, chunks - noise, is_pad)

    def sample(
        self,
        features: Tensor,
        noise: Tensor | None = None,
        plan: Tensor | None = None,
        left: int = 0,
    ) -> Tensor:
        """Return chunks `[B, T, A]` for features `[B, F]` from noise `[B, T, A]`.

        From a plan `[B, T, A]` of which `left` steps are left, the path begins part of the way from
        the noise to that plan.
        """
        if noise is None:
            noise = self.noise_like(features)
        chunks, begin = noise, 0
        if plan is not None:
            begin = steps_done(left, plan.shape[1], self._sample_steps)
            chunks = torch.lerp(noise, plan, begin / self._sample_steps)
        for step in range(begin, self._sample_steps):
            time = torch.full((len(chunks),), step / self._sample_steps, device=chunks.device)
            chunks = chunks + self.velocity(chunks, time, features) / self._sample_steps
        return chunks
