"""Options of the policies of this family."""

from __future__ import annotations

from typing import Any

from attrs import field, frozen
from attrs.validators import and_, ge, in_, lt

LOSSES = ("mse", "l1", "huber")


def _count(default: int, *, least: int = 1) -> Any:
    return field(default=default, validator=ge(least))


def _fraction(default: float = 0.0) -> Any:
    return field(default=default, validator=and_(ge(0.0), lt(1.0)))


def _loss(default: str = "mse") -> Any:
    return field(default=default, validator=in_(LOSSES))


@frozen(kw_only=True)
class ImageOptions:
    """What can be chosen about images, whatever the policy."""

    use_image: bool = False
    """Whether the policy sees images besides the state."""
    image_keys: tuple[str, ...] | None = None
    """Observation keys of the cameras, in order; all of the data's if not given."""
    augment_shift: int = _count(0, least=0)
    """Largest random shift of an image in training [pixels]."""
    augment_colour: float = _fraction()
    """Largest random change of an image's colours in training [fraction]."""


@frozen(kw_only=True)
class ChunkOptions(ImageOptions):
    """What can be chosen about chunks, whatever predicts them."""

    horizon: int = _count(8)
    """Actions in a chunk [timesteps]."""
    execute: int | None = None
    """Steps of a chunk that are executed before the next; all of them, or 1 with ensembling, if
    not given."""
    ensemble: float | None = None
    """Temporal ensembling: weight exp(-m i) of the i-th oldest chunk; off if not given."""


@frozen(kw_only=True)
class BCOptions(ImageOptions):
    """What can be chosen for ``bc``."""

    hidden_dim: int = _count(256)
    """Width of the hidden layers."""
    n_layers: int = _count(3)
    """Number of hidden layers."""
    dropout: float = _fraction()
    """Fraction of hidden units that are dropped in training."""
    loss_type: str = _loss()
    """Loss on the normalised action: mse, l1 or huber."""


@frozen(kw_only=True)
class ChunkedOptions(ChunkOptions):
    """What can be chosen for ``bc-chunk``."""

    ensemble: float | None = 0.01
    """Temporal ensembling: weight exp(-m i) of the i-th oldest chunk; off if not given."""
    hidden_dim: int = _count(256)
    """Width of the hidden layers."""
    n_layers: int = _count(3)
    """Number of hidden layers."""
    dropout: float = _fraction()
    """Fraction of hidden units that are dropped in training."""
    loss_type: str = _loss()
    """Loss on the normalised actions: mse, l1 or huber."""


@frozen(kw_only=True)
class MixtureOptions(ChunkOptions):
    """What can be chosen for ``bc-gmm``."""

    num_modes: int = _count(5)
    """Gaussians in the mixture."""
    least_std: float = field(default=0.05, validator=ge(1e-4))
    """Floor of each standard deviation [normalised action]."""
    horizon: int = _count(1)
    """Actions in a chunk [timesteps]."""
    hidden_dim: int = _count(256)
    """Width of the hidden layers."""
    n_layers: int = _count(3)
    """Number of hidden layers."""
    dropout: float = _fraction()
    """Fraction of hidden units that are dropped in training."""


@frozen(kw_only=True)
class RecurrentOptions(ImageOptions):
    """What can be chosen for ``bc-rnn``."""

    horizon: int = _count(10)
    """Timesteps of a training window, and after which the memory starts anew [timesteps]."""
    head: str = field(default="regression", validator=in_(("regression", "mixture")))
    """Regression to one action, or a mixture of Gaussians."""
    num_modes: int = _count(5)
    """Gaussians in the mixture."""
    least_std: float = field(default=0.05, validator=ge(1e-4))
    """Floor of each standard deviation of the mixture [normalised action]."""
    loss_type: str = _loss()
    """Loss of the regression on the normalised actions: mse, l1 or huber."""
    hidden_dim: int = _count(128)
    """Width of the memory and of the layer before it."""
    n_layers: int = _count(1)
    """Number of recurrent layers."""


@frozen(kw_only=True)
class ACTOptions(ChunkOptions):
    """What can be chosen for ``act``."""

    ensemble: float | None = 0.01
    """Temporal ensembling: weight exp(-m i) of the i-th oldest chunk; off if not given."""
    hidden_dim: int = _count(64)
    """Width of the transformer."""
    num_heads: int = _count(4)
    """Attention heads; they divide the width."""
    n_layers: int = _count(2)
    """Layers of the encoder of observations, and of the one of demonstrated chunks."""
    n_decoder_layers: int = _count(1)
    """Layers of the decoder."""
    latent_dim: int = _count(32)
    """Dimensions of the style variable."""
    kl_weight: float = field(default=10.0, validator=ge(0.0))
    """Weight of the style variable's divergence from a standard normal."""
    dropout: float = _fraction(0.0)
    """Fraction of units that are dropped in training."""
    loss_type: str = _loss("l1")
    """Loss on the normalised actions: mse, l1 or huber."""


@frozen(kw_only=True)
class DiffusionOptions(ChunkOptions):
    """What can be chosen for ``diffusion``."""

    execute: int | None = 4
    """Steps of a chunk that are executed before the next."""
    num_levels: int = _count(100)
    """Noise levels in training."""
    sample_steps: int = _count(10)
    """DDIM steps in sampling."""
    hidden_dim: int = _count(128)
    """Width of the denoiser."""
    n_layers: int = _count(3)
    """Residual blocks of the denoiser."""


@frozen(kw_only=True)
class FlowOptions(ChunkOptions):
    """What can be chosen for ``flow``."""

    execute: int | None = 4
    """Steps of a chunk that are executed before the next."""
    sample_steps: int = _count(10)
    """Euler steps in sampling."""
    hidden_dim: int = _count(128)
    """Width of the velocity network."""
    n_layers: int = _count(3)
    """Residual blocks of the velocity network."""
