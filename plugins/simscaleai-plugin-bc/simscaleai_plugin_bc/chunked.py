"""The policies that differ in their head only: regression, mixture, diffusion, flow."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from simscaleai_plugin_bc.chunk_policy import ChunkPolicy
from simscaleai_plugin_bc.heads.diffusion import DiffusionHead
from simscaleai_plugin_bc.heads.flow import FlowHead
from simscaleai_plugin_bc.heads.mixture import MixtureHead
from simscaleai_plugin_bc.heads.regression import RegressionHead
from simscaleai_plugin_bc.options import (
    ChunkedOptions,
    DiffusionOptions,
    FlowOptions,
    MixtureOptions,
)


class ChunkedBCPolicy(ChunkPolicy):
    """An MLP from the observation to the next T actions.

    Args:
        arguments: As for `FamilyPolicy`.
        options: See `ChunkedOptions`.

    Source:
        Chunks and their ensembling: Zhao et al. 2023 (arXiv:2304.13705); the MLP is ours.
    """

    options_class: ClassVar[type] = ChunkedOptions
    component: ClassVar[str] = "bc-chunk"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        chosen = self.options
        self.head: nn.Module = RegressionHead(
            self.inputs.dim,
            chosen.horizon,
            self.action_dim,
            hidden_dim=chosen.hidden_dim,
            n_layers=chosen.n_layers,
            dropout=chosen.dropout,
            loss_type=chosen.loss_type,
        )


class MixturePolicy(ChunkPolicy):
    """An MLP to a mixture of Gaussians: demonstrations that disagree stay apart.

    Args:
        arguments: As for `FamilyPolicy`.
        options: See `MixtureOptions`.

    Source:
        Mandlekar et al. 2021 (BC-GMM, arXiv:2108.03298).
    """

    options_class: ClassVar[type] = MixtureOptions
    component: ClassVar[str] = "bc-gmm"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        chosen = self.options
        self.head: nn.Module = MixtureHead(
            self.inputs.dim,
            chosen.horizon,
            self.action_dim,
            hidden_dim=chosen.hidden_dim,
            n_layers=chosen.n_layers,
            dropout=chosen.dropout,
            num_modes=chosen.num_modes,
            least_std=chosen.least_std,
        )


class DiffusionPolicy(ChunkPolicy):
    """Chunks denoised from noise, given the observation.

    Args:
        arguments: As for `FamilyPolicy`.
        options: See `DiffusionOptions`.

    Source:
        Chi et al. 2023 (arXiv:2303.04137), with an MLP as the denoiser and one observation.
    """

    options_class: ClassVar[type] = DiffusionOptions
    component: ClassVar[str] = "diffusion"
    actions_to_range: bool = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        chosen = self.options
        self.head: nn.Module = DiffusionHead(
            self.inputs.dim,
            chosen.horizon,
            self.action_dim,
            hidden_dim=chosen.hidden_dim,
            n_layers=chosen.n_layers,
            num_levels=chosen.num_levels,
            sample_steps=chosen.sample_steps,
        )


class FlowPolicy(ChunkPolicy):
    """Chunks that flow from noise along a learned velocity, given the observation.

    Args:
        arguments: As for `FamilyPolicy`.
        options: See `FlowOptions`.

    Source:
        Lipman et al. 2023 (arXiv:2210.02747); for actions Black et al. 2024 (arXiv:2410.24164).
    """

    options_class: ClassVar[type] = FlowOptions
    component: ClassVar[str] = "flow"
    actions_to_range: bool = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        chosen = self.options
        self.head: nn.Module = FlowHead(
            self.inputs.dim,
            chosen.horizon,
            self.action_dim,
            hidden_dim=chosen.hidden_dim,
            n_layers=chosen.n_layers,
            sample_steps=chosen.sample_steps,
        )
