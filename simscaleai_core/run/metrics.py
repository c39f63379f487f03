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
    """Keeps references to detached scalars and turns them into means once per window.

    Values that are not finite are left out of a mean, so that one skipped step does not hide the
    others.
    """

    def __init__(self) -> None:
        self._pending: dict[str, list[Tensor]] = {}
        self._totals: dict[str, Tensor] = {}

    def add(self, scalars: Mapping[str, Tensor], step: int) -> None:
        """Add one step's scalars, each `[]`."""
        for name, value in scalars.items():
            self._pending.setdefault(name, []).append(value)
        if step % _ACCUMULATE_EVERY == 0:
            self._accumulate()

    def reduce(
        self, strategy: Strategy, flags: Sequence[bool] = ()
    ) -> tuple[dict[str, float], list[bool]]:
        """Return the means of the window and which flags any rank raised; start a new window.

        One packed reduction over ranks and one copy to the host.
        """
        self._accumulate()
        names = sorted(self._totals)
        columns = [self._totals[n] for n in names]
        raised = torch.tensor([float(f) for f in flags], device=strategy.device)
        packed = torch.cat([*columns, raised.to(columns[0].dtype) if columns else raised])
        values = strategy.reduce(packed).tolist()
        self._totals = {}
        size = 2 * len(names)
        pairs = zip(names, values[0:size:2], values[1:size:2], strict=True)
        means = {n: total / count if count else float("nan") for n, total, count in pairs}
        return means, [count > 0 for count in values[size:]]

    def _accumulate(self) -> None:
        for name, values in self._pending.items():
            has_double = values[0].device.type != "mps"
            column = torch.stack(values).to(torch.float64 if has_double else torch.float32)
            finite = torch.isfinite(column)
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

    def rate(self) -> float:
        """Return this rank's samples per second since the window began [1/s]."""
        return self.samples / max(time.perf_counter() - self._started, 1e-9)


def scalars_of(out: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the scalars of a policy's output, detached; other outputs are not metrics."""
    return {
        name: value.detach()
        for name, value in out.items()
        if isinstance(value, Tensor) and value.ndim == 0
    }


def add_weighted(sums: dict[str, Tensor], scalars: Mapping[str, Tensor], weight: float) -> None:
    """Add a micro-batch's scalars, each `[]`, to the sums of its step, times the batch's weight."""
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
