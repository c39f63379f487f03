"""Muon for matrices and AdamW for everything else, as one optimiser."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from simscaleai_core.config import TrainConfig
from simscaleai_plugin_muon.options import MuonOptions

_A, _B, _C = 3.4445, -4.7750, 2.0315  # of the iteration; steepest at 0
_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8  # AdamW's


def build(
    parameter_groups: list[dict[str, Any]], config: TrainConfig, options: MuonOptions
) -> Muon:
    """Return the optimiser: of each group one with its matrices and one with the rest."""
    groups = []
    for group in parameter_groups:
        for is_matrix in (True, False):
            found = [p for p in group["params"] if (p.ndim == 2) is is_matrix]
            if found:
                groups.append({**group, "params": found, "is_matrix": is_matrix})
    return Muon(groups, lr=config.lr, weight_decay=config.weight_decay, options=options)


class Muon(torch.optim.Optimizer):
    """Momentum whose singular values are brought near to 1, for groups with ``is_matrix``.

    Source:
        Jordan et al. 2024 (Muon: an optimizer for hidden layers in neural networks); the size of
        an update is that of Liu et al. 2025 (arXiv:2502.16982), equation 4. Other groups: Loshchilov
        and Hutter 2019 (AdamW, arXiv:1711.05101), algorithm 2.
    """

    def __init__(
        self, groups: list[dict[str, Any]], lr: float, weight_decay: float, options: MuonOptions
    ) -> None:
        kept = {"momentum": options.momentum, "iterations": options.iterations}
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay, **kept})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            update = self._muon if group["is_matrix"] else self._adam
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    change = update(parameter.grad, self.state[parameter], group)
                    parameter.add_(change, alpha=-group["lr"])
        return loss

    @staticmethod
    def _muon(gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        if not state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        momentum: Tensor = state["momentum_buffer"]
        momentum.lerp_(gradient, 1 - group["momentum"])
        direction = gradient.lerp(momentum, group["momentum"])  # Nesterov's
        size = 0.2 * math.sqrt(max(gradient.shape))
        return orthogonal(direction, group["iterations"]) * size

    @staticmethod
    def _adam(gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        del group
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(gradient)
            state["exp_avg_sq"] = torch.zeros_like(gradient)
        state["step"] += 1
        mean: Tensor = state["exp_avg"].lerp_(gradient, 1 - _BETA1)
        square: Tensor = state["exp_avg_sq"].lerp_(gradient.square(), 1 - _BETA2)
        updates: int = state["step"]
        root = (square / (1 - _BETA2**updates)).sqrt() + _EPS
        return mean / (1 - _BETA1**updates) / root


def orthogonal(matrix: Tensor, iterations: int) -> Tensor:
    """Return a matrix `[M, N]` with the same singular vectors, all singular values near 1.

    Source:
        Jordan et al. 2024; Newton-Schulz with a polynomial of degree 5.
    """
    is_tall = matrix.shape[0] > matrix.shape[1]
    x: Tensor = matrix.T if is_tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    return x.T if is_tall else x
