"""Plain float32: no autocast, no loss scaling."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import StateDict
from simscaleai_core.errors import CheckpointError

_NOTHING = nullcontext()


class Float32:
    """Everything in float32. See `simscaleai_core.contracts.Precision`."""

    effective = "float32"

    def __init__(self, config: TrainConfig, options: None = None) -> None:
        del config, options

    def setup(self, device: torch.device) -> None:
        """Learn the device."""

    def autocast(self) -> AbstractContextManager[Any]:
        """Return a context that does nothing."""
        return _NOTHING

    def backward(self, loss: Tensor) -> None:
        """Run the backward pass from the loss `[]`."""
        torch.autograd.backward(loss)

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Leave the gradients: they have their true scale."""

    def step(self, optimizer: torch.optim.Optimizer, norm: Tensor, veto: bool) -> bool | Tensor:
        """Return whether the update was made: not if the norm `[]` is not finite or vetoed.

        On a GPU the decision stays on the device: fused optimisers honour ``found_inf``, the
        attribute that ``GradScaler`` itself uses.
        """
        return guarded_step(optimizer, norm, veto)

    def state_dict(self) -> StateDict:
        """Return nothing: there is no scaler."""
        return {}

    def load_state_dict(self, state: StateDict) -> None:
        """Accept the empty state of another run without a scaler.

        Raises:
            CheckpointError: If the checkpoint was written with a gradient scaler.
        """
        if state:
            raise CheckpointError(
                "the checkpoint was trained with a gradient scaler (float16), this run has none: "
                "continue with the precision it was trained with.",
                path="",
            )


def guarded_step(optimizer: torch.optim.Optimizer, norm: Tensor, veto: bool) -> bool | Tensor:
    """Step the optimiser unless the total gradient norm `[]` is not finite or the step is vetoed.

    Returns:
        Whether it was applied; on the CPU a bool, elsewhere a bool tensor `[]`.
    """
    fused = all(group.get("fused") for group in optimizer.param_groups)
    if norm.device.type == "cpu" or veto or not fused:
        applied = not veto and math.isfinite(norm.item())
        if applied:
            optimizer.step()
        return applied
    applied_flag = torch.isfinite(norm)
    device_optimizer: Any = optimizer
    device_optimizer.grad_scale = None
    device_optimizer.found_inf = (~applied_flag).float()
    optimizer.step()
    return applied_flag
