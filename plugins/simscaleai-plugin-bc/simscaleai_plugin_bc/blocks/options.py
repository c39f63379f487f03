"""Options that several policies share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen
from attrs.validators import and_, ge, in_, lt

from simscaleai_core.plugin import REPORTED

LOSSES = ("mse", "l1", "huber")
"""Regression losses by name."""


def count_option(
    default: int, *, minimum: int = 1, metadata: Mapping[str, str] | None = None
) -> Any:
    """Declare a whole number.

    Args:
        default: Its value if not given.
        minimum: The smallest value allowed.
        metadata: What becomes of another value on resume; refused if None.

    Returns:
        The attrs field.
    """
    return field(default=default, validator=ge(minimum), metadata=metadata)


def fraction_option(default: float = 0.0) -> Any:
    """Declare a fraction in [0, 1)."""
    return field(default=default, validator=and_(ge(0.0), lt(1.0)))


def loss_option(default: str = "mse") -> Any:
    """Declare the name of a regression loss."""
    return field(default=default, validator=in_(LOSSES))


@frozen(kw_only=True)
class ImageOptions:
    """Options about images, whatever the policy."""

    use_image: bool = False
    """Whether the policy sees images besides the state."""
    image_keys: tuple[str, ...] | None = None
    """Observation keys of the cameras, in order; all of the data's if not given."""
    augment_shift: int = count_option(0, minimum=0)
    """Largest random shift of an image in training [pixels]."""
    augment_colour: float = fraction_option()
    """Largest random change of an image's colours in training [fraction]."""


@frozen(kw_only=True, slots=False)  # two bases with slots cannot be combined
class MLPOptions:
    """Options about an MLP, whatever it predicts."""

    hidden_dim: int = count_option(256)
    """Width of the hidden layers."""
    n_layers: int = count_option(3)
    """Number of hidden layers."""
    dropout: float = fraction_option()
    """Fraction of hidden units that are dropped in training."""


@frozen(kw_only=True)
class ChunkOptions(ImageOptions):
    """Options about chunks of actions, whatever predicts them."""

    horizon: int = count_option(8)
    """Actions in a chunk [timesteps]."""
    execute: int | None = field(default=None, metadata=REPORTED)
    """Steps of a chunk that are executed before the next; all of them, or 1 with ensembling, if
    not given."""
    ensemble: float | None = field(default=None, metadata=REPORTED)
    """Temporal ensembling: weight exp(-m i) of the i-th oldest chunk; off if not given."""
