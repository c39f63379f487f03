"""The learning-rate schedules that the core brings: a linear warm-up, then each its own way."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    SequentialLR,
)

from simscaleai_core.builtin.plugin import WsdOptions
from simscaleai_core.config import TrainConfig

_NEARLY_ZERO = 1e-8  # LinearLR refuses a start factor of exactly 0


def cosine(
    optimizer: torch.optim.Optimizer, config: TrainConfig, options: None = None
) -> LRScheduler:
    """Return half a cosine from the peak to 0 after the warm-up.

    A warm-up that is not shorter than the run takes all of it; the peak is then not reached.

    Source:
        Loshchilov and Hutter 2017 (SGDR, arXiv:1608.03983), eq. 5 with one period.

    Example:
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> schedule = cosine(optimizer, TrainConfig(warmup_steps=2, max_steps=6))
        >>> rates = []
        >>> for _ in range(6):
        ...     rates.append(round(optimizer.param_groups[0]["lr"], 3))
        ...     optimizer.step(); schedule.step()
        >>> rates
        [0.0, 0.5, 1.0, 0.854, 0.5, 0.146]
    """
    del options
    warmup_steps, max_steps = config.warmup_steps, config.max_steps
    if warmup_steps == 0:
        return CosineAnnealingLR(optimizer, T_max=max_steps)
    warmup = LinearLR(optimizer, start_factor=_NEARLY_ZERO, total_iters=warmup_steps)
    if warmup_steps >= max_steps:
        return warmup
    after = CosineAnnealingLR(optimizer, T_max=max_steps - warmup_steps)
    return SequentialLR(optimizer, [warmup, after], milestones=[warmup_steps])


def constant(
    optimizer: torch.optim.Optimizer, config: TrainConfig, options: None = None
) -> LRScheduler:
    """Return the peak rate after the warm-up."""
    del options
    return _scaled(optimizer, config, lambda _: 1.0)


def linear(
    optimizer: torch.optim.Optimizer, config: TrainConfig, options: None = None
) -> LRScheduler:
    """Return a straight line from the peak to 0 after the warm-up."""
    del options
    return _scaled(optimizer, config, lambda done: 1.0 - done)


def wsd(optimizer: torch.optim.Optimizer, config: TrainConfig, options: WsdOptions) -> LRScheduler:
    """Return the peak rate after the warm-up, then a straight line to 0.

    Source:
        Hu et al. 2024 (MiniCPM, arXiv:2404.06395), section 4: warm-up, stable, decay.
    """
    return _scaled(optimizer, config, lambda done: min(1.0, (1.0 - done) / options.decay_fraction))


def _scaled(
    optimizer: torch.optim.Optimizer, config: TrainConfig, after: Callable[[float], float]
) -> LRScheduler:
    """Scale the rate by a function of the fraction of what follows the warm-up."""
    warmup, rest = config.warmup_steps, max(1, config.max_steps - config.warmup_steps)

    def factor(update: int) -> float:
        return update / warmup if update < warmup else after(min(1.0, (update - warmup) / rest))

    return LambdaLR(optimizer, factor)
