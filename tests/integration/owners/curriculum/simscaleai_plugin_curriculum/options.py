"""Options of this plugin's sampler."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import and_, ge, gt, le


@frozen(kw_only=True)
class CurriculumOptions:
    """What can be chosen for the curriculum."""

    start_fraction: float = field(default=0.25, validator=and_(gt(0), le(1)))
    """Share of the samples that the first epoch trains on."""
    epochs: int = field(default=5, validator=ge(1))
    """Epochs until all samples are trained on."""
