"""Options of the policies of this family."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import ge, in_

from simscaleai_core.plugin import REPORTED
from simscaleai_plugin_bc.blocks.options import (
    ChunkOptions,
    ImageOptions,
    MLPOptions,
    count_option,
    fraction_option,
    loss_option,
    noise_option,
    seconds_option,
    temperature_option,
)


@frozen(kw_only=True)
class BCOptions(MLPOptions, ImageOptions):
    """Options of ``bc``."""

    loss_type: str = loss_option()
    """Loss on the normalised action: mse, l1 or huber."""


@frozen(kw_only=True)
class ChunkedOptions(MLPOptions, ChunkOptions):
    """Options of ``bc-chunk``."""

    ensemble: float | None = field(default=0.01, metadata=REPORTED)
    """Temporal ensembling: weight exp(-m i) of the i-th oldest chunk; off if not given."""
    loss_type: str = loss_option()
    """Loss on the normalised actions: mse, l1 or huber."""


@frozen(kw_only=True)
class MixtureOptions(MLPOptions, ChunkOptions):
    """Options of ``bc-gmm``."""

    num_modes: int = count_option(5)
    """Gaussians in the mixture."""
    least_std: float = field(default=0.05, validator=ge(1e-4))
    """Floor of each standard deviation [normalised action]."""
    horizon: int = count_option(1)
    """Actions in a chunk [timesteps]."""


@frozen(kw_only=True)
class RecurrentOptions(ImageOptions):
    """Options of ``bc-rnn``."""

    horizon: int = count_option(10)
    """Timesteps of a training window, and after which the memory starts anew [timesteps]."""
    horizon_seconds: float | None = seconds_option()
    """The same [s], instead of horizon; of data that knows its rate."""
    head: str = field(default="regression", validator=in_(("regression", "mixture")))
    """Regression to one action, or a mixture of Gaussians."""
    num_modes: int = count_option(5)
    """Gaussians in the mixture."""
    least_std: float = field(default=0.05, validator=ge(1e-4))
    """Floor of each standard deviation of the mixture [normalised action]."""
    loss_type: str = loss_option()
    """Loss of the regression on the normalised actions: mse, l1 or huber."""
    hidden_dim: int = count_option(128)
    """Width of the memory and of the layer before it."""
    n_layers: int = count_option(1)
    """Number of recurrent layers."""


@frozen(kw_only=True)
class ACTOptions(ChunkOptions):
    """Options of ``act``."""

    ensemble: float | None = field(default=0.01, metadata=REPORTED)
    """Temporal ensembling: weight exp(-m i) of the i-th oldest chunk; off if not given."""
    hidden_dim: int = count_option(64)
    """Width of the transformer."""
    num_heads: int = count_option(4)
    """Attention heads; they divide the width."""
    n_layers: int = count_option(2)
    """Layers of the encoder of observations, and of the one of demonstrated chunks."""
    n_decoder_layers: int = count_option(1)
    """Layers of the decoder."""
    latent_dim: int = count_option(32)
    """Dimensions of the style variable."""
    kl_weight: float = field(default=10.0, validator=ge(0.0))
    """Weight of the style variable's divergence from a standard normal."""
    dropout: float = fraction_option()
    """Fraction of units that are dropped in training."""
    loss_type: str = loss_option("l1")
    """Loss on the normalised actions: mse, l1 or huber."""


@frozen(kw_only=True)
class DiffusionOptions(ChunkOptions):
    """Options of ``diffusion``."""

    execute: int | None = field(default=4, metadata=REPORTED)
    """Steps of a chunk that are executed before the next."""
    noise: str = noise_option()
    """Where a chunk begins: warm (what is left of the last one, and the episode's noise), held (the
    episode's noise) or fresh (noise of its own)."""
    temperature: float = temperature_option()
    """Factor on the noise; below 1, chunks are nearer to the middle of their mode."""
    num_levels: int = count_option(100)
    """Noise levels in training."""
    sample_steps: int = count_option(10, metadata=REPORTED)
    """DDIM steps in sampling."""
    hidden_dim: int = count_option(128)
    """Width of the denoiser."""
    n_layers: int = count_option(3)
    """Residual blocks of the denoiser."""


@frozen(kw_only=True)
class FlowOptions(ChunkOptions):
    """Options of ``flow``."""

    execute: int | None = field(default=4, metadata=REPORTED)
    """Steps of a chunk that are executed before the next."""
    noise: str = noise_option()
    """Where a chunk begins: warm (what is left of the last one, and the episode's noise), held (the
    episode's noise) or fresh (noise of its own)."""
    temperature: float = temperature_option()
    """Factor on the noise; below 1, chunks are nearer to the middle of their mode."""
    sample_steps: int = count_option(10, metadata=REPORTED)
    """Euler steps in sampling."""
    hidden_dim: int = count_option(128)
    """Width of the velocity network."""
    n_layers: int = count_option(3)
    """Residual blocks of the velocity network."""
