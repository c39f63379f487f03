"""Options of mixed precision."""

from __future__ import annotations

import math
from typing import Any

from attrs import Attribute, field, frozen
from attrs.validators import ge


def _check_scale(instance: object, attribute: Attribute[float], value: Any) -> None:
    del instance
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{attribute.name!r}: expected a finite number above 0, got {value!r}")


@frozen(kw_only=True)
class AmpOptions:
    """What can be chosen for mixed precision."""

    on_cpu: bool = False
    """Use mixed precision on a CPU too, where it costs more than it gives for small policies."""
    init_scale: float = field(default=65536.0, validator=_check_scale)
    """Factor on the loss that float16 starts with."""
    growth_interval: int = field(default=2000, validator=ge(1))
    """Applied updates in a row after which float16 doubles the factor [steps]."""
