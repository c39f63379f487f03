"""Options of the TensorBoard logger."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import gt


@frozen(kw_only=True)
class TensorBoardOptions:
    """What can be chosen for the TensorBoard logger."""

    log_dir: str | None = None
    """Directory of the event files; `tensorboard` in the checkpoint directory if not given."""
    flush_s: float = field(default=30.0, validator=gt(0.0))
    """Longest time that a value waits in memory before it is on disk [s]."""
