"""The modules of a policy that are sharded, and computed again, one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from simscaleai_core.errors import ConfigError

_SHOWN = 8


def blocks_of(policy: nn.Module, patterns: Sequence[str]) -> list[nn.Module]:
    """Return the modules whose class has one of the names, inner ones before outer ones.

    Args:
        policy: The policy.
        patterns: Names of classes, with ``*`` and ``?``; the policy's own ``block_classes`` if
            there are none.

    Returns:
        The modules, without the policy itself.

    Raises:
        ConfigError: If a pattern matches nothing.
    """
    named = tuple(patterns or getattr(policy, "block_classes", ()))
    modules = [m for m in policy.modules() if m is not policy and any(True for _ in m.parameters())]
    kinds = sorted({type(module).__name__ for module in modules})
    for pattern in patterns:
        if not any(fnmatchcase(kind, pattern) for kind in kinds):
            more = f" and {len(kinds) - _SHOWN} more" if len(kinds) > _SHOWN else ""
            raise ConfigError(
                f"the strategy 'fsdp' finds no module of the class {pattern!r}: expected one of "
                f"{', '.join(kinds[:_SHOWN]) or 'none'}{more}. Change --fsdp.blocks."
            )
    found = [m for m in modules if any(fnmatchcase(type(m).__name__, p) for p in named)]
    return found[::-1]


def compute_again(block: nn.Module) -> None:
    """Have a block keep only its inputs, and compute its outputs again in the backward pass.

    Source:
        Chen et al. 2016 (Training deep nets with sublinear memory cost, arXiv:1604.06174).
    """
    own: Any = block
    own.forward = partial(checkpoint, block.forward, use_reentrant=False)
