"""Options of this plugin's optimiser."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import and_, ge, lt


@frozen(kw_only=True)
class MuonOptions:
    """What can be chosen for Muon."""

    momentum: float = field(default=0.95, validator=and_(ge(0), lt(1)))
    """Share of the last step's momentum in the next."""
    iterations: int = field(default=5, validator=ge(1))
    """Newton-Schulz iterations that make it orthogonal."""
