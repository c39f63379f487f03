"""Options of this plugin's schedule."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import and_, gt, le


@frozen(kw_only=True)
class RsqrtOptions:
    """What can be chosen for the schedule."""

    cooldown_fraction: float = field(default=0.2, validator=and_(gt(0), le(1)))
    """Share of the run, its last part, in which the rate falls to 0."""
