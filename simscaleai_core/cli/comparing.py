"""Where two checkpoints differ, to the last bit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from attrs import frozen
from torch import Tensor

from simscaleai_core.contracts import StateDict

PARTS = {
    "weights": "model_state_dict",
    "optimiser state": "optimizer_state_dict",
    "schedule": "scheduler_state_dict",
    "gradient scaler": "scaler_state_dict",
    "counters": "counters",
    "random states": "rng",
    "other states": "states",
}
"""The parts of a checkpoint that are compared, and their keys."""

_HOW_IT_WAS_SAVED = ("states.loop.is_finished", "states.loop.is_save_asked")


@frozen(kw_only=True)
class PartComparison:
    """How a part of a checkpoint compares."""

    name: str
    """The part."""
    entries: int
    """Tensors and values in it."""
    different: tuple[str, ...]
    """Places of those that differ, in their order."""
    first: str
    """What differs at the first of them, in words."""
    largest: float
    """Largest absolute difference of two tensors' numbers."""


def compare(before: StateDict, now: StateDict) -> list[PartComparison]:
    """Compare two checkpoints part by part, bit by bit.

    Args:
        before: The checkpoint's tree.
        now: That of the run that was trained again.

    Returns:
        One comparison for each of `PARTS`.
    """
    return [_compared(name, key, before.get(key), now.get(key)) for name, key in PARTS.items()]


def _compared(name: str, key: str, before: Any, now: Any) -> PartComparison:
    found = [leaf for leaf in _leaves(before, now, key) if leaf[0] not in _HOW_IT_WAS_SAVED]
    wrong = [(place, text, size) for place, text, size in found if text]
    return PartComparison(
        name=name,
        entries=len(found),
        different=tuple(place for place, _, _ in wrong),
        first=f"{wrong[0][0]}: {wrong[0][1]}" if wrong else "",
        largest=max((size for _, _, size in wrong), default=0.0),
    )


def _leaves(before: Any, now: Any, place: str) -> Iterator[tuple[str, str, float]]:
    """Yield place, difference in words, if any, and its size, of each tensor and value."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys((*before, *now)):
            inner = f"{place}.{key}"
            if key in before and key in now:
                yield from _leaves(before[key], now[key], inner)
            else:
                yield inner, "is missing " + ("there" if key in now else "now"), 0.0
    elif isinstance(before, (list, tuple)) and isinstance(now, (list, tuple)):
        if len(before) != len(now):
            yield place, f"has {len(before)} entries there, {len(now)} now", 0.0
        elif any(isinstance(v, (Mapping, list, tuple, Tensor)) for v in before):
            for number, pair in enumerate(zip(before, now, strict=True)):
                yield from _leaves(*pair, f"{place}.{number}")
        else:
            yield place, "" if repr([*before]) == repr([*now]) else "is another list", 0.0
    elif isinstance(before, Tensor) and isinstance(now, Tensor):
        yield place, *_tensors(before, now)
    else:
        same = type(before) is type(now) and repr(before) == repr(now)  # NaN is NaN
        yield place, "" if same else f"{before!r} there, {now!r} now", 0.0


def _tensors(before: Tensor, now: Tensor) -> tuple[str, float]:
    if before.shape != now.shape or before.dtype != now.dtype:
        forms = (f"{list(t.shape)} of {t.dtype}" for t in (before, now))
        return " there, ".join(forms) + " now", 0.0
    count = int((_bits(before) != _bits(now)).any(dim=1).sum())
    if not count:
        return "", 0.0
    kind = torch.complex128 if before.is_complex() else torch.float64
    size = float((before.to(kind) - now.to(kind)).abs().nan_to_num(0.0, math.inf).max())
    return f"{count} of {before.numel()} numbers differ, by {size:.3g} at most", size


def _bits(value: Tensor) -> Tensor:
    """Return the bytes of each number, uint8 `[N, bytes]`: 0 and -0 differ, and NaN is NaN."""
    whole = value.detach().cpu().contiguous()
    return whole.reshape(-1, 1).view(torch.uint8).reshape(whole.numel(), whole.element_size())
