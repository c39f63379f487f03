"""The optimiser and its schedule: AdamW, linear warm-up, then half a cosine."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR

from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import StateDict
from simscaleai_core.errors import PolicyError

_NEARLY_ZERO = 1e-8  # LinearLR refuses a start factor of exactly 0


def build_optimizer(policy: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Return AdamW over the parameters that want a gradient, fused where torch has the kernel.

    The policy's ``parameter_groups()``, if it has one, decides the groups.

    Raises:
        PolicyError: If the policy has no parameter to train.

    Source:
        Loshchilov and Hutter 2019 (AdamW, arXiv:1711.05101), algorithm 2.
    """
    groups: Any = getattr(policy, "parameter_groups", None)
    parameters = groups() if groups else [p for p in policy.parameters() if p.requires_grad]
    if not parameters:
        raise PolicyError(
            f"nothing to train: {type(policy).__name__} has no parameter that requires a gradient. "
            "Unfreeze some, or check what freezes them."
        )
    fused = {p.device.type for p in policy.parameters()} <= {"cpu", "cuda", "mps"}
    return torch.optim.AdamW(
        parameters, lr=config.lr, weight_decay=config.weight_decay, fused=fused
    )


def state_mismatches(
    optimizer: torch.optim.Optimizer, found: StateDict, *, has_begun: bool
) -> list[str]:
    """Return in words what of a state dict does not fit an optimiser, which may have begun.

    torch itself accepts moments of any shape, and its fused kernel then writes out of bounds.
    """
    groups, ours = optimizer.param_groups, optimizer.state_dict()["param_groups"]
    faults: list[str] = []
    if [g["params"] for g in ours] != [g["params"] for g in found["param_groups"]]:
        faults.append("optimizer_state_dict.param_groups: expected the numbers of the parameters")
    if has_begun and not found["state"]:
        faults.append("optimizer_state_dict.state: expected the moments of the updates, found none")
    parameters = [p for group in groups for p in group["params"]]
    for index, state in found["state"].items():
        place = f"optimizer_state_dict.state.{index}"
        if not 0 <= index < len(parameters) or state.keys() != {"step", "exp_avg", "exp_avg_sq"}:
            faults.append(f"{place} is of no parameter of this run: {', '.join(map(str, state))}")
            continue
        for name, value in state.items():
            like = torch.zeros(()) if name == "step" else parameters[index]
            form = (getattr(value, "shape", None), getattr(value, "dtype", None))
            if form != (like.shape, like.dtype):
                faults.append(f"{place}.{name}: expected {list(like.shape)} of {like.dtype}")
            elif not torch.isfinite(value).all() or (name != "exp_avg" and (value < 0).any()):
                faults.append(f"{place}.{name}: expected finite numbers of at least 0")
    return faults


def build_schedule(
    optimizer: torch.optim.Optimizer, *, warmup_steps: int, max_steps: int
) -> LRScheduler:
    """Return the learning-rate schedule: linear from 0 to the peak, then cosine to 0.

    It is stepped once per applied update. A warm-up that is not shorter than the run takes all of
    it; the peak is then not reached.

    Source:
        Loshchilov and Hutter 2017 (SGDR, arXiv:1608.03983), eq. 5 with one period.

    Example:
        >>> optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        >>> schedule = build_schedule(optimizer, warmup_steps=2, max_steps=6)
        >>> rates = []
        >>> for _ in range(6):
        ...     rates.append(round(optimizer.param_groups[0]["lr"], 3))
        ...     optimizer.step(); schedule.step()
        >>> rates
        [0.0, 0.5, 1.0, 0.854, 0.5, 0.146]
    """
    if warmup_steps == 0:
        return CosineAnnealingLR(optimizer, T_max=max_steps)
    warmup = LinearLR(optimizer, start_factor=_NEARLY_ZERO, total_iters=warmup_steps)
    if warmup_steps >= max_steps:
        return warmup
    cosine = CosineAnnealingLR(optimizer, T_max=max_steps - warmup_steps)
    return SequentialLR(optimizer, [warmup, cosine], milestones=[warmup_steps])


def advance(schedule: LRScheduler, updates: int) -> None:
    """Bring a fresh schedule to where it stands after `updates` applied updates [steps]."""
    with warnings.catch_warnings():
        # torch warns when a schedule moves before the optimiser's first update
        warnings.simplefilter("ignore", UserWarning)
        for _ in range(updates):
            schedule.step()
