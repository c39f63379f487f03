"""The train step `supervised`, and the parts of it that other train steps are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import Batch, StepResult
from simscaleai_core.data.batches import sample_count, split_batch, to_device
from simscaleai_core.errors import PolicyError
from simscaleai_core.run.metrics import add_weighted, loss_of, scalars_of
from simscaleai_core.run.state import Run


class Supervised:
    """One update from one batch. See `simscaleai_core.contracts.TrainStep`.

    Forward and backward for each micro-batch, gradients clipped, one update.
    """

    def __init__(self, config: TrainConfig, options: None = None) -> None:
        del config, options

    def update(self, run: Run, batch: Batch) -> StepResult:
        """Train on a batch."""
        metrics, out = backward(run, batch)
        applied = apply_gradients(run, metrics)
        return StepResult(metrics, applied, out)


def micro_batches(run: Run, batch: Batch) -> Iterator[tuple[Batch, float, bool]]:
    """Yield each micro-batch, transformed and on the device, its weight, and if it is the last."""
    parts = run.config.accumulate
    pieces = [batch] if parts == 1 else split_batch(batch, parts)
    size = sample_count(batch)
    for number, piece in enumerate(pieces, start=1):
        micro = to_device(piece, run.strategy.device)
        for transform in run.events.transform_batch:
            micro = transform(run, micro)
        weight = sample_count(piece) / size if len(pieces) > 1 else 1.0
        yield micro, weight, number == len(pieces)


def backward(
    run: Run, batch: Batch, loss: Callable[[Mapping[str, Any], Batch], Tensor] | None = None
) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """Add a batch's gradients to the parameters', micro-batch by micro-batch.

    Args:
        run: The run.
        batch: The batch, on the host.
        loss: Makes the loss `[]` of what the policy returned and the micro-batch; the policy's own
            ``"loss"`` if None.

    Returns:
        The scalars that the policy returned, detached means `[]`, and its last output.
    """
    out: Mapping[str, Any] = {}
    scalars: dict[str, Tensor] = {}
    for micro, weight, is_last in micro_batches(run, batch):
        with run.strategy.sync(run.module, is_last):
            with run.precision.autocast():
                out = run.module(micro)
                if loss is not None:
                    out = {**out, "loss": loss(out, micro)}
            value = loss_of(out, run.policy, step=run.step)
            run.precision.backward(value if weight == 1.0 else value * weight)
        add_weighted(scalars, scalars_of(out), weight)
    return scalars, out


def apply_gradients(
    run: Run,
    metrics: dict[str, Tensor],
    optimizer: torch.optim.Optimizer | None = None,
    parameters: Sequence[Tensor] | None = None,
) -> bool | Tensor:
    """Clip the gradients, update unless they are not finite or vetoed, and let go of them.

    Args:
        run: The run.
        metrics: Scalars `[]` of the step; gets the gradients' norm as ``grad_norm``.
        optimizer: The optimiser to step; the run's if None.
        parameters: Its parameters; all that are trained if None.

    Returns:
        Whether the update was applied, as `StepResult` has it.

    Raises:
        PolicyError: If `max_skipped` updates in a row were skipped.
    """  # noqa: DOC501 - built by _stuck
    optimizer = run.optimizer if optimizer is None else optimizer
    parameters = run.parameters if parameters is None else parameters
    run.precision.unscale(optimizer)
    veto = False
    for listener in run.events.grads_ready:
        veto = bool(listener(run)) or veto
    metrics["grad_norm"] = norm = run.strategy.clip(parameters, run.config.grad_clip or None)
    if run.skipped_in_row >= run.config.max_skipped and (veto or not norm.isfinite()):
        raise _stuck(run, metrics)
    applied = run.precision.step(optimizer, norm, veto)
    for parameter in parameters:
        parameter.grad = None
    return applied


def _stuck(run: Run, metrics: Mapping[str, Tensor]) -> PolicyError:
    """Return the error of a run whose updates are all skipped, while its gradients are there."""
    values = [(name, value.item()) for name, value in metrics.items()]
    name, value = next((v for v in values if not math.isfinite(v[1])), values[-1])
    named = [(name, p) for name, p in run.policy.named_parameters() if p.requires_grad]
    parts: list[tuple[str, str, Tensor]] = [("the parameter", n, p) for n, p in named]
    parts += [("the gradient of", n, p.grad) for n, p in named if p.grad is not None]
    first = next((f"{what} {n!r}" for what, n, t in parts if not t.isfinite().all()), "")
    cause = f"the first that is not finite is {first}" if first else "a listener vetoes them"
    return PolicyError(
        f"{run.skipped_in_row} updates in a row were skipped, up to step {run.step}: expected "
        f"finite gradients, the metric {name} is {value:.3g}; {cause}. Lower lr, check the data, "
        "or raise max_skipped; earlier checkpoints are untouched.",
        step=run.step,
    )
