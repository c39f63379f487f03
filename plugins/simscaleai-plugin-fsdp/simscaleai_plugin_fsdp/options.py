"""Options of the strategy."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import ge, gt, in_, optional

from simscaleai_core.plugin import HARMLESS, REPORTED

_DTYPES = ("float32", "bfloat16")


@frozen(kw_only=True)
class FSDPOptions:
    """Options of sharded training."""

    blocks: tuple[str, ...] = field(default=(), metadata=REPORTED)
    """Classes of the modules that are sharded one at a time, such as ``*EncoderLayer``; those that
    the policy names if not given."""
    replicate: int = field(default=1, validator=ge(1), metadata=REPORTED)
    """Copies of the policy: each group of ranks, the world's share of so many, shards one."""
    reshard_after_forward: bool = field(default=True, metadata=HARMLESS)
    """Let go of a block's parameters after its forward pass and gather them again for the backward
    pass."""
    param_dtype: str = field(default="float32", validator=in_(_DTYPES))
    """Number format in which parameters are gathered and the forward pass computes."""
    reduce_dtype: str = field(default="float32", validator=in_(_DTYPES))
    """Number format in which gradients are reduced."""
    cpu_offload: bool = field(default=False, metadata=REPORTED)
    """Keep parameters, gradients and optimiser state in the memory of the host."""
    checkpoint_activations: bool = field(default=False, metadata=REPORTED)
    """Keep only the inputs of the blocks, and compute each again in the backward pass."""
    timeout_s: float = field(default=600.0, validator=gt(0.0), metadata=HARMLESS)
    """How long a rank waits for another before it gives up [s]."""
    join_timeout_s: float | None = field(
        default=None, validator=optional(gt(0.0)), metadata=HARMLESS
    )
    """How long a rank waits at the start for all others [s]: 30 on one host, else `timeout_s`."""
    hang_timeout_s: float = field(default=120.0, validator=gt(0.0), metadata=HARMLESS)
    """Within which time a rank that is stopped or stuck ends the run [s]."""
