"""Options of the Weights & Biases logger."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import ge, gt, in_, optional

MODES = ("online", "offline", "disabled")


@frozen(kw_only=True)
class WandbOptions:
    """What can be chosen for the Weights & Biases logger."""

    mode: str | None = field(default=None, validator=optional(in_(MODES)))
    """online, offline or disabled; WANDB_MODE if not given, else online if there is an API key."""
    dir: str | None = None
    """Parent of the `wandb` folder; WANDB_DIR if not given, else the checkpoint directory."""
    tags: tuple[str, ...] = ()
    """Tags of the run."""
    entity: str | None = None
    """User or team that owns the project; your default one if not given."""
    init_timeout_s: float = field(default=10.0, validator=gt(0.0))
    """Longest wait for the server at the start, before the run goes on offline [s]."""
    finish_timeout_s: float = field(default=300.0, validator=ge(0.0))
    """Longest wait for uploads at the end [s]; 0 waits until all is uploaded."""
