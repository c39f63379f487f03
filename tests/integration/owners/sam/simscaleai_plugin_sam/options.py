"""Options of this plugin's train step."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import gt


@frozen(kw_only=True)
class SamOptions:
    """What can be chosen for sharpness-aware minimisation."""

    rho: float = field(default=0.05, validator=gt(0))
    """How far away from the weights the gradient is taken, as a 2-norm."""
