"""Sums of a step's scalars over one logging window, without reading the device in between."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from simscaleai_core.contracts import StateDict, Strategy
from simscaleai_core.errors import PolicyError

_ACCUMULATE_EVERY = 256  # steps; fixed by the step, so that a save in between changes no rounding


class MetricWindow:
    """Keeps references to detached values and turns them into means once per window.

    A value is `[]`, or the sum and the number `[2]` of several. What is not finite is left out of a
    mean, so that one skipped step does not hide the others.
    """

    def __init__(self) -> None:
        self._pending: dict[str, list[Tensor]] = {}
        self._totals: dict[str, Tensor] = {}

    def add(self, scalars: Mapping[str, Tensor], step: int) -> None:
        """Add one step's values, each `[]` or `[2]`."""
        for name, value in scalars.items():
            self._pending.setdefault(name, []).append(value)
        if step % _ACCUMULATE_EVERY == 0:
            self._accumulate()

    def reduce(
        self, strategy: Strategy, flags: Sequence[bool] = ()
    ) -> tuple[dict[str, float], list[bool]]:
        """Return the means of the window and which flags any rank raised; start a new window.

        The mean of a part of the samples, named ``loss/...``, is left out if there were none of it.
        One packed reduction over ranks and one copy to the host.
        """
        self._accumulate()
        names = sorted(self._totals)
        columns = [self._totals[n].to(strategy.device) for n in names]
        raised = torch.tensor([float(f) for f in flags], device=strategy.device)
        packed = torch.cat([*columns, raised.to(columns[0].dtype) if columns else raised])
        values = strategy.reduce(packed).tolist()
        self._totals = {}
        size = 2 * len(names)
        pairs = zip(names, values[0:size:2], values[1:size:2], strict=True)
        means = {
            name: total / count if count else float("nan")
            for name, total, count in pairs
            if count or not name.startswith("loss/")
        }
        return means, [count > 0 for count in values[size:]]

    def _accumulate(self) -> None:
        for name, values in self._pending.items():
            has_double = values[0].device.type != "mps"
            column = torch.stack(values).to(torch.float64 if has_double else torch.float32)
            finite = torch.isfinite(column)
            total = column.sum(0)
            if not total.ndim:
                total = torch.stack([torch.where(finite, column, 0).sum(), finite.sum()])
            self._totals[name] = self._totals[name] + total if name in self._totals else total
        self._pending = {}

    def state_dict(self) -> StateDict:
        """Return the open window."""
        pending = {name: torch.stack(values) for name, values in self._pending.items()}
        return {"pending": pending, "totals": dict(self._totals)}

    def load_state_dict(self, state: StateDict, device: torch.device) -> None:
        """Continue the window that was open when the checkpoint was written, on a device."""
        self._pending = {name: list(c.to(device)) for name, c in state["pending"].items()}
        self._totals = {name: total.to(device) for name, total in state["totals"].items()}


class Throughput:
    """Samples per second of training, without the time that evaluation and saving take."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin a new window."""
        self.samples = 0
        self._started = time.perf_counter()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the time that the body takes."""
        paused = time.perf_counter()
        try:
            yield
        finally:
            self._started += time.perf_counter() - paused

    def rate(self, untimed_s: float = 0.0) -> float:
        """Return this rank's samples per second of the window without `untimed_s` [s] [1/s]."""
        return self.samples / max(time.perf_counter() - self._started - untimed_s, 1e-9)


def scalars_of(out: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the scalars of a policy's output, detached; other outputs are not metrics."""
    return {
        name: value.detach()
        for name, value in out.items()
        if isinstance(value, Tensor) and value.ndim == 0
    }


def losses_by_source(
    out: Mapping[str, Any], batch: Mapping[str, Any], names: Sequence[str]
) -> dict[str, Tensor]:
    """Return sum and number `[2]` of the ``sample_loss`` `[B]` of each source, as ``loss/NAME``.

    Nothing if the policy returned none. All ranks must give the same names of sources.

    Raises:
        PolicyError: If the losses are not one for each sample.
    """
    losses, sources = out.get("sample_loss"), batch.get("source")
    if losses is None or sources is None or not names:
        return {}
    if not isinstance(losses, Tensor) or losses.shape != (len(sources),):
        found = list(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
        raise PolicyError(
            f"the policy's forward broke its contract: expected 'sample_loss' [{len(sources)}], a "
            f"loss for each sample, got {found}. Leave it out, or return the mean of each sample."
        )
    places = {name: place for place, name in enumerate(names)}
    owners = torch.tensor([places.get(name, -1) for name in sources])
    mine = torch.arange(len(names))[:, None] == owners  # not index_add: it varies on a GPU
    values = losses.detach().float()
    counted = mine.to(values.device, non_blocking=True) & values.isfinite()
    sums = torch.stack([torch.where(counted, values, 0).sum(1), counted.sum(1)], dim=1)
    return {f"loss/{name}": pair for name, pair in zip(names, sums.unbind(), strict=True)}


def add_weighted(sums: dict[str, Tensor], scalars: Mapping[str, Tensor], weight: float) -> None:
    """Add a micro-batch's values to the sums of its step, times the batch's weight."""
    for name, value in scalars.items():
        part = value if weight == 1.0 else value * weight
        sums[name] = sums[name] + part if name in sums else part


def floats_of(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers among values as host floats; what is no number is left out.

    Numbers are Python's, NumPy scalars and tensors `[]`; a float may be infinite or NaN.

    Example:
        >>> floats_of({"a": 1, "b": torch.tensor(0.5), "c": "text", "d": [2.0], "e": 10**400})
        {'a': 1.0, 'b': 0.5}
    """
    found: dict[str, float] = {}
    for name, value in values.items():
        if _is_number(value):
            with suppress(OverflowError):  # an int beyond the largest float
                found[name] = float(value)
    return found


def _is_number(value: object) -> bool:
    if isinstance(value, Tensor):
        return value.ndim == 0 and not value.is_complex()
    if isinstance(value, (np.generic, np.ndarray)):
        return value.ndim == 0 and value.dtype.kind in "biuf"
    return isinstance(value, (int, float))


def loss_of(out: Any, policy: nn.Module, *, step: int) -> Tensor:
    """Return the loss `[]` of what a policy's ``forward`` returned, or raise a `PolicyError`."""
    if not isinstance(out, Mapping):
        found = type(out).__name__
    elif not isinstance(loss := out.get("loss"), Tensor):
        found = f"the keys {', '.join(map(repr, out)) or 'none'}"
    elif loss.ndim == 0 and loss.requires_grad:
        return loss
    else:
        found = f"a loss of shape {list(loss.shape)}, requires_grad={loss.requires_grad}"
    raise PolicyError(
        f"{type(policy).__name__}.forward broke its contract: expected a dict with a scalar 'loss' "
        f"that has a gradient, got {found}. Return {{'loss': loss}}.",
        step=step,
    )
