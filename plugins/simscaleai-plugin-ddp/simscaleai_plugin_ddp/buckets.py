"""DistributedDataParallel that adds up gradients in one order, from the first step on."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel


class _Reversed(DistributedDataParallel):
    """Takes the parameters in the order in which their gradients come, last layer first."""

    def _build_params_for_reducer(self) -> tuple[list[nn.Parameter], list[bool]]:
        parameters, is_sparse = super()._build_params_for_reducer()  # type: ignore[no-untyped-call]
        return parameters[::-1], is_sparse[::-1]


def steady(policy: nn.Module, **settings: Any) -> DistributedDataParallel:
    """Return the policy, wrapped so that all steps put gradients into the same buckets.

    Torch 2.13 sorts the buckets anew after the first backward pass of a process. From three ranks
    on, where a gradient stands in its bucket decides in which order the ranks' parts are added, and
    so how the sum is rounded: the first step of a resumed run would differ from the same step of
    the run that was not interrupted. Here they are sorted before it, and then never again.

    Args:
        policy: The policy, on its device.
        settings: What `DistributedDataParallel` takes besides.
    """
    module = _Reversed(policy, **settings)
    module.reducer._push_all_rebuilt_params()
    module.reducer._rebuild_buckets()
    return module
