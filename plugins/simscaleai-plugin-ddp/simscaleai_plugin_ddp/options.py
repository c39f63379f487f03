"""Options of the strategy."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import gt


@frozen(kw_only=True)
class DDPOptions:
    """Options of DistributedDataParallel."""

    timeout_s: float = field(default=600.0, validator=gt(0.0))
    """How long a rank waits for another before it gives up [s]."""
    find_unused_parameters: bool = False
    """Search for parameters without a gradient in each step; costs time."""
    static_graph: bool = False
    """Promise that every step uses the same parameters in the same order."""
