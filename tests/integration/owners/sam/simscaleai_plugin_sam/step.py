"""A train step with two passes."""

from __future__ import annotations

import torch

from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import Batch, StepResult
from simscaleai_core.run.state import Run
from simscaleai_core.run.train_step import apply_gradients, backward, micro_batches
from simscaleai_plugin_sam.options import SamOptions


class SharpnessAware:
    """Updates the weights with the gradient at the worst point within `rho` of them.

    Source:
        Foret et al. 2021 (SAM, arXiv:2010.01412), algorithm 1, with p = 2.
    """

    def __init__(self, config: TrainConfig, options: SamOptions) -> None:
        del config
        self._rho = options.rho

    def update(self, run: Run, batch: Batch) -> StepResult:
        """Train on a batch: climb, take the gradient there, go back, update."""
        micros = list(micro_batches(run, batch))  # the same ones in both passes
        metrics, out = backward(run, micros)
        before = [p.detach().clone() for p in run.parameters]
        self._climb(run)
        backward(run, micros)
        with torch.no_grad():
            for parameter, value in zip(run.parameters, before, strict=True):
                parameter.copy_(value)
        return StepResult(metrics, apply_gradients(run, metrics), out)

    @torch.no_grad()
    def _climb(self, run: Run) -> None:
        """Move each weight along its gradient, which is then let go of."""
        norm = run.strategy.clip(run.parameters, None)  # only measures; equal on all ranks
        # a gradient that is not finite, as float16 may have, leaves the weights where they are
        scale = torch.where(norm.isfinite(), self._rho / (norm + 1e-12), 0.0)
        for parameter in run.parameters:
            if parameter.grad is not None:
                parameter.add_(parameter.grad.nan_to_num(0.0, 0.0, 0.0) * scale)
                parameter.grad = None
