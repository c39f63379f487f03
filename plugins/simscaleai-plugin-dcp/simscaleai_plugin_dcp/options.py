"""Options of the backend."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import ge, gt


@frozen(kw_only=True)
class DcpOptions:
    """Options of distributed checkpoints."""

    timeout_s: float = field(default=600.0, validator=gt(0.0))
    """How long a save waits for another rank before it fails [s]."""
    files_per_rank: int = field(default=1, validator=ge(1))
    """Files that each rank writes at once, each in a thread of its own."""
