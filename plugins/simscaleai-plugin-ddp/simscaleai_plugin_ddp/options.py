"""Options of the strategy."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import gt, optional

from simscaleai_core.plugin import HARMLESS, REPORTED


@frozen(kw_only=True)
class DDPOptions:
    """Options of DistributedDataParallel."""

    timeout_s: float = field(default=600.0, validator=gt(0.0), metadata=HARMLESS)
    """How long a rank waits for another before it gives up [s]."""
    join_timeout_s: float | None = field(
        default=None, validator=optional(gt(0.0)), metadata=HARMLESS
    )
    """How long a rank waits at the start for all others [s]: 30 on one host, else `timeout_s`."""
    hang_timeout_s: float = field(default=120.0, validator=gt(0.0), metadata=HARMLESS)
    """Within which time a rank that is stopped or stuck ends the run [s]."""
    find_unused_parameters: bool = field(default=False, metadata=REPORTED)
    """Search for parameters without a gradient in each step; costs time."""
    static_graph: bool = field(default=False, metadata=REPORTED)
    """Promise that every step uses the same parameters in the same order."""
