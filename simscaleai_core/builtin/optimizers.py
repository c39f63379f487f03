"""The optimisers that the core brings. See `simscaleai_core.contracts.OptimizerBuilder`."""

from __future__ import annotations

from typing import Any

import torch

from simscaleai_core.builtin.plugin import AdamWOptions, SgdOptions
from simscaleai_core.config import TrainConfig


def adamw(
    parameter_groups: list[dict[str, Any]], config: TrainConfig, options: AdamWOptions
) -> torch.optim.AdamW:
    """Return AdamW, fused where torch has the kernel.

    Source:
        Loshchilov and Hutter 2019 (AdamW, arXiv:1711.05101), algorithm 2.
    """
    return torch.optim.AdamW(
        parameter_groups,
        lr=config.lr,
        weight_decay=config.weight_decay,
        betas=(options.beta1, options.beta2),
        eps=options.eps,
        fused=_has_fused_kernel(parameter_groups),
    )


def sgd(
    parameter_groups: list[dict[str, Any]], config: TrainConfig, options: SgdOptions
) -> torch.optim.SGD:
    """Return stochastic gradient descent with momentum, fused where torch has the kernel.

    Source:
        Sutskever et al. 2013 (On the importance of initialization and momentum), section 2.
    """
    return torch.optim.SGD(
        parameter_groups,
        lr=config.lr,
        weight_decay=config.weight_decay,
        momentum=options.momentum,
        nesterov=options.nesterov,
        fused=_has_fused_kernel(parameter_groups),
    )


def _has_fused_kernel(parameter_groups: list[dict[str, Any]]) -> bool:
    devices = {p.device.type for group in parameter_groups for p in group["params"]}
    return devices <= {"cpu", "cuda", "mps"}
