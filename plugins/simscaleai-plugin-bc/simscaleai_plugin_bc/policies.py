"""The policies that differ in their head only: regression, mixture, diffusion, flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from simscaleai_plugin_bc.blocks.chunking import ChunkPolicy
from simscaleai_plugin_bc.blocks.heads.base import Head, HeadSizes
from simscaleai_plugin_bc.blocks.heads.diffusion import DiffusionHead
from simscaleai_plugin_bc.blocks.heads.flow import FlowHead
from simscaleai_plugin_bc.blocks.heads.mixture import MixtureHead
from simscaleai_plugin_bc.blocks.heads.regression import RegressionHead
from simscaleai_plugin_bc.options import (
    ChunkedOptions,
    DiffusionOptions,
    FlowOptions,
    MixtureOptions,
)


class HeadPolicy(ChunkPolicy):
    """A policy whose head takes the features as one vector.

    Args:
        arguments: As for `FamilyPolicy`.
        options: Fields of `options_class`.
    """

    head_class: ClassVar[Callable[..., Head]]
    """Builds the head from its sizes."""
    head_options: ClassVar[tuple[str, ...]]
    """Options that the head takes, too."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        given = {name: getattr(self.options, name) for name in self.head_options}
        sizes = HeadSizes(self.inputs.dim, self.horizon, self.action_space.dim)
        self.head = self.head_class(sizes, **given)


class ChunkedBCPolicy(HeadPolicy):
    """An MLP from the observation to the next T actions.

    Its options are those of `ChunkedOptions`.

    Source:
        Chunks and their ensembling: Zhao et al. 2023 (arXiv:2304.13705); the MLP is ours.
    """

    options_class: ClassVar[type] = ChunkedOptions
    component: ClassVar[str] = "bc-chunk"
    head_class = RegressionHead
    head_options = ("hidden_dim", "n_layers", "dropout", "loss_type")


class MixturePolicy(HeadPolicy):
    """An MLP to a mixture of Gaussians: demonstrations that disagree stay apart.

    Its options are those of `MixtureOptions`.

    Source:
        Mandlekar et al. 2021 (BC-GMM, arXiv:2108.03298).
    """

    options_class: ClassVar[type] = MixtureOptions
    component: ClassVar[str] = "bc-gmm"
    head_class = MixtureHead
    head_options = ("hidden_dim", "n_layers", "dropout", "num_modes", "least_std")


class DiffusionPolicy(HeadPolicy):
    """Chunks denoised from noise, given the observation.

    Its options are those of `DiffusionOptions`.

    Source:
        Chi et al. 2023 (arXiv:2303.04137), with an MLP as the denoiser and one observation.
    """

    options_class: ClassVar[type] = DiffusionOptions
    component: ClassVar[str] = "diffusion"
    actions_to_range: bool = True
    head_class = DiffusionHead
    head_options = ("hidden_dim", "n_layers", "num_levels", "sample_steps")


class FlowPolicy(HeadPolicy):
    """Chunks that flow from noise along a learned velocity, given the observation.

    Its options are those of `FlowOptions`.

    Source:
        Lipman et al. 2023 (arXiv:2210.02747); for actions Black et al. 2024 (arXiv:2410.24164).
    """

    options_class: ClassVar[type] = FlowOptions
    component: ClassVar[str] = "flow"
    actions_to_range: bool = True
    head_class = FlowHead
    head_options = ("hidden_dim", "n_layers", "sample_steps")
