"""A train step whose forward and backward pass are one compiled graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from simscaleai_core.contracts import Batch, StepResult
from simscaleai_core.errors import ConfigError
from simscaleai_core.run.metrics import add_weighted, losses_by_source, scalars_of
from simscaleai_core.run.state import Run
from simscaleai_core.run.train_step import Supervised, apply_gradients, micro_batches
from simscaleai_plugin_extensions.fused_update import FusedUpdate


class CompiledStep:
    """Does what `Supervised` does. See `simscaleai_core.contracts.TrainStep`.

    Args:
        run: The run, before its optimiser is built.
        compiled: Compiles a function of a run.

    Raises:
        ConfigError: If the run does something between the passes that no graph contains.

    Source:
        Ours: the gradients are taken inside the traced function, so that the compiler sees both
        passes at once and nothing is kept for a backward pass of its own.
    """

    def __init__(
        self, run: Run, compiled: Callable[[Callable[..., Any], Run], Callable[..., Any]]
    ) -> None:
        _check(run)
        self._compiled = compiled
        self._update: FusedUpdate | None = None
        self._has_looked = False

    def setup(self, run: Run) -> None:
        """Learn the parameters.

        Args:
            run: The run, prepared.
        """
        module, parameters = run.module, tuple(run.parameters)

        def differentiate(batch: Batch) -> tuple[dict[str, Any], tuple[Tensor | None, ...], Tensor]:
            with run.precision.autocast():
                out: Mapping[str, Any] = module(batch)
            found = torch.autograd.grad(out["loss"], parameters, allow_unused=True)
            each = [torch.linalg.vector_norm(g) for g in found if g is not None]
            norm = torch.linalg.vector_norm(torch.stack(each))
            return {k: v.detach() for k, v in out.items() if isinstance(v, Tensor)}, found, norm

        self._differentiate = self._compiled(differentiate, run)
        self._sources = tuple(run.data_spec.sources) if run.data_spec else ()

    def update(self, run: Run, batch: Batch) -> StepResult:
        """Train on a batch."""
        if run.optimizer.state and not self._has_looked:  # so that a resumed run updates alike
            self._update, self._has_looked = FusedUpdate.fitting(run), True
        metrics: dict[str, Tensor] = {}
        out: dict[str, Any] = {}
        for micro, weight, is_last in micro_batches(run, batch):
            out, gradients, norm = self._differentiate(micro)
            add_weighted(metrics, scalars_of(out), weight)
            add_weighted(metrics, losses_by_source(out, micro, self._sources), 1.0)
            is_whole = is_last and weight == 1.0 and all(g is not None for g in gradients)
            if self._update and is_whole and math.isfinite(size := norm.item()):
                self._update(gradients, size)
                return StepResult({**metrics, "grad_norm": norm}, applied=True, out=out)
            _add(run.parameters, gradients, weight)
        return StepResult(metrics, apply_gradients(run, metrics), out)


def _add(parameters: Sequence[Tensor], gradients: Sequence[Tensor | None], weight: float) -> None:
    """Add the gradients of a micro-batch to those that the parameters have."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            part = gradient if weight == 1.0 else gradient * weight
            parameter.grad = part if parameter.grad is None else parameter.grad + part


def _check(run: Run) -> None:
    if type(run.train_step) is not Supervised:
        found = f"the train step {type(run.train_step).__name__}"
        wanted = "the train step 'supervised'"
    elif run.strategy.world_size > 1:
        found, wanted = f"{run.strategy.world_size} ranks", "one rank"
    elif run.precision.state_dict():
        found, wanted = run.precision.effective, "a precision without a gradient scaler"
    else:
        return
    raise ConfigError(
        f"a whole step cannot be compiled here: expected {wanted}, got {found}. Set "
        "--compile.scope policy."
    )
