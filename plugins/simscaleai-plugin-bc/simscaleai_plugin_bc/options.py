"""Options of the behaviour cloning policy."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import and_, ge, in_, lt

LOSSES = ("mse", "l1", "huber")


@frozen(kw_only=True)
class BCOptions:
    """What can be chosen when the policy is built from data."""

    hidden_dim: int = field(default=256, validator=ge(1))
    """Width of the hidden layers."""
    n_layers: int = field(default=3, validator=ge(1))
    """Number of hidden layers."""
    use_image: bool = False
    """Whether the policy sees the image besides the state."""
    dropout: float = field(default=0.0, validator=and_(ge(0.0), lt(1.0)))
    """Fraction of hidden units that are dropped in training."""
    loss_type: str = field(default="mse", validator=in_(LOSSES))
    """Loss on the normalised action: mse, l1 or huber."""
