"""Options of this plugin's components."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import gt, in_

SQUASHES = ("none", "tanh")


@frozen(kw_only=True)
class LinearOptions:
    """Options of the linear policy."""

    gain: float = field(default=1.0, validator=gt(0.0))
    """Factor on the action."""
    squash: str = field(default="none", validator=in_(SQUASHES))
    """What keeps the action within bounds: none or tanh."""


@frozen(kw_only=True)
class EffortOptions:
    """Options of the effort measure."""

    states: int = field(default=64, validator=gt(0))
    """Random states at which the action is measured."""
