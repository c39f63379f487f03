"""The train step `supervised`, and the parts of it that other train steps are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import Batch, StepResult
from simscaleai_core.data.batches import sample_count, split_batch, to_device
from simscaleai_core.errors import PolicyError
from simscaleai_core.run.metrics import add_weighted, loss_of, losses_by_source, scalars_of
from simscaleai_core.run.state import Run


class Supervised:
    """One update from one batch. See `simscaleai_core.contracts.TrainStep`.

    Forward and backward for each micro-batch, gradients clipped, one update.
    """

    def __init__(self, config: TrainConfig, options: None = None) -> None:
        del config, options

    def update(self, run: Run, batch: Batch) -> StepResult:
        """Train on a batch."""
        metrics, out = backward(run, micro_batches(run, batch))
        applied = apply_gradients(run, metrics)
        return StepResult(metrics, applied, out)


MicroBatch = tuple[Batch, float, bool]
"""A micro-batch on the device, its weight, and whether it is the last of its step."""


def micro_batches(run: Run, batch: Batch) -> Iterator[MicroBatch]:
    """Yield the micro-batches of a batch, which is on the host, transformed by the listeners.

    A train step with several passes keeps them in a list: each pass then sees the same.
    """
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
    run: Run,
    micros: Iterable[MicroBatch],
    loss: Callable[[Mapping[str, Any], Batch], Tensor] | None = None,
) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """Add the gradients of micro-batches to those of the parameters.

    Args:
        run: The run.
        micros: All micro-batches of a step, from `micro_batches`.
        loss: Makes the loss `[]` of what the policy returned and the micro-batch; the policy's own
            ``"loss"`` if None.

    Returns:
        The scalars that the policy returned, detached means `[]`; with its own loss, sum and number
        `[2]` of its ``sample_loss`` for each source of a mixture; and its last output.
    """
    sources = tuple(run.data_spec.sources) if run.data_spec and loss is None else ()
    out: Mapping[str, Any] = {}
    scalars: dict[str, Tensor] = {}
    for micro, weight, is_last in micros:
        with run.strategy.sync(run.module, is_last):
            with run.precision.autocast():
                out = run.module(micro)
                if loss is not None:
                    out = {**out, "loss": loss(out, micro)}
            value = loss_of(out, run.policy, step=run.step)
            run.precision.backward(value if weight == 1.0 else value * weight)
        add_weighted(scalars, scalars_of(out), weight)
        add_weighted(scalars, losses_by_source(out, micro, sources), 1.0)
    return scalars, out


def apply_gradients(
    run: Run, metrics: dict[str, Tensor], *optimizers: torch.optim.Optimizer
) -> bool | Tensor:
    """Clip the gradients, update unless they are not finite or vetoed, and let go of them.

    Args:
        run: The run.
        metrics: Those of the step; gets the gradients' norm `[]` as ``grad_norm``.
        optimizers: Those to step, all or none; the run's own, of all that is trained, if not given.
            Only their parameters are clipped, by one norm, and lose their gradients.

    Returns:
        Whether the update was applied, as `StepResult` has it.

    Raises:
        PolicyError: If `max_skipped` updates in a row were skipped.
    """  # noqa: DOC501 - built by _stuck
    groups = (group for optimizer in optimizers for group in optimizer.param_groups)
    parameters = [p for group in groups for p in group["params"]] or run.parameters
    for optimizer in (stepped := optimizers or (run.optimizer,)):
        run.precision.unscale(optimizer)
    veto = False
    for listener in run.events.grads_ready:
        veto = bool(listener(run)) or veto
    metrics["grad_norm"] = norm = run.strategy.clip(parameters, run.config.grad_clip or None)
    if run.skipped_in_row >= run.config.max_skipped and (veto or not norm.isfinite()):
        raise _stuck(run, metrics)
    applied = [run.precision.step(optimizer, norm, veto) for optimizer in stepped]
    for parameter in parameters:
        parameter.grad = None
    return applied[0]


def _stuck(run: Run, metrics: Mapping[str, Tensor]) -> PolicyError:
    """Return the error of a run whose updates are all skipped, while its gradients are there."""
    values = [(name, value.item()) for name, value in metrics.items() if value.ndim == 0]
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
