"""The inverse square root of the step, with a warm-up and a cool-down."""

from __future__ import annotations

import math

import torch
from torch.optim.lr_scheduler import LambdaLR

from simscaleai_core.config import TrainConfig
from simscaleai_plugin_rsqrt.options import RsqrtOptions


def build(optimizer: torch.optim.Optimizer, config: TrainConfig, options: RsqrtOptions) -> LambdaLR:
    """Return the schedule; each group's own rate is the peak of its rate.

    Source:
        Vaswani et al. 2017 (arXiv:1706.03762), equation 3, with the cool-down of Zhai et al. 2022
        (Scaling vision transformers, arXiv:2106.04560), section 3.5.
    """
    warmup, end = max(1, config.warmup_steps), config.max_steps
    cooldown = max(1.0, options.cooldown_fraction * end)

    def factor(update: int) -> float:
        rise = min(1.0, (update + 1) / warmup)
        fall = math.sqrt(warmup / max(update + 1, warmup))
        return rise * fall * min(1.0, (end - update) / cooldown)

    return LambdaLR(optimizer, factor)
