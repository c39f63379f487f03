"""Options of this plugin's transform."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import ge


@frozen(kw_only=True)
class JitterOptions:
    """What can be chosen for the noise."""

    std: float = field(default=0.01, validator=ge(0))
    """Standard deviation [units of the observation]."""
