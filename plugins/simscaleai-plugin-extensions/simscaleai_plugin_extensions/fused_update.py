"""AdamW's update of all parameters in one call of torch's kernel, for policies that are small."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from simscaleai_core.builtin.fp32 import Float32
from simscaleai_core.builtin.single import SingleDevice
from simscaleai_core.run.state import Run


class FusedUpdate:
    """Clips and updates as `apply_gradients` does, for a run in which nothing else looks.

    What is around the kernel in ``Optimizer.step`` takes as long as the kernel, on the CPU and with
    a hundred thousand parameters. The kernel divides the gradients on its way, which clips them.

    Args:
        run: A run that `fits`.

    Source:
        Ours; the arithmetic is that of ``torch.optim.AdamW`` with ``fused=True``.
    """

    def __init__(self, run: Run) -> None:
        self._limit = run.config.grad_clip or math.inf
        self._scale = torch.ones(())
        self._groups: list[tuple[dict[str, Any], tuple[list[Tensor], ...], list[int]]] = []
        places = {id(p): i for i, p in enumerate(run.parameters)}
        for group in run.optimizer.param_groups:
            states = [run.optimizer.state[p] for p in group["params"]]
            kept = ("exp_avg", "exp_avg_sq", "step")
            lists = ([p.detach() for p in group["params"]], *([s[k] for s in states] for k in kept))
            self._groups.append((group, lists, [places[id(p)] for p in group["params"]]))

    @classmethod
    def fitting(cls, run: Run) -> Self | None:
        """Return the update of a run that has made a first one in the ordinary way.

        Args:
            run: The run.

        Returns:
            None if something else may be asked for between the gradients and the update, or the
            optimiser is another one.
        """
        optimizer: Any = run.optimizer
        groups = optimizer.param_groups
        is_plain = (
            type(run.strategy) is SingleDevice
            and type(run.precision) is Float32
            and run.strategy.device.type == "cpu"
            and not run.events.grads_ready
        )
        is_known = (
            type(optimizer) is torch.optim.AdamW
            and not optimizer._optimizer_step_pre_hooks
            and not optimizer._optimizer_step_post_hooks
            and all(g["fused"] and not g["amsgrad"] and not g["maximize"] for g in groups)
            and sum(len(g["params"]) for g in groups) == len(run.parameters)
            and all(p in optimizer.state for g in groups for p in g["params"])
        )
        return cls(run) if is_plain and is_known else None

    def __call__(self, gradients: Sequence[Tensor], norm: float) -> None:
        """Update the parameters.

        Args:
            gradients: Of the run's parameters, in their order; changed.
            norm: Their total norm, finite.
        """
        clips = norm > self._limit
        if clips:
            self._scale.fill_((norm + 1e-6) / self._limit)  # as torch's clip_grads_with_norm_ does
        with torch.no_grad():
            for group, (parameters, first, second, steps), places in self._groups:
                torch._foreach_add_(steps, 1)
                torch._fused_adamw_(
                    parameters,
                    [gradients[place] for place in places],
                    first,
                    second,
                    [],
                    steps,
                    amsgrad=False,
                    lr=group["lr"],
                    beta1=group["betas"][0],
                    beta2=group["betas"][1],
                    weight_decay=group["weight_decay"],
                    eps=group["eps"],
                    maximize=False,
                    grad_scale=self._scale if clips else None,
                )
