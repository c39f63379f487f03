"""Counting, cutting and moving batches, whatever they are nested of."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

import torch
from torch.utils.data import default_collate

from simscaleai_core.contracts import Batch, Collated, float_image
from simscaleai_core.errors import DataError


def sample_count(batch: Batch) -> int:
    """Return the number of samples of a batch: the length of its first tensor or list.

    Raises:
        DataError: If it is no table of tensors.
    """
    if not hasattr(batch, "values"):
        raise DataError(
            f"the loader gives {type(batch).__name__}: expected batches as dicts with "
            "'observations' and 'actions'. Give it a collate_fn that makes them."
        )
    for value in batch.values():
        if isinstance(value, Mapping):
            return sample_count(value)
        if hasattr(value, "__len__"):
            return len(value)
    return 1


def split_batch(batch: Batch, parts: int) -> list[Batch]:
    """Cut a batch into at most `parts` micro-batches of consecutive samples."""
    size = sample_count(batch)
    parts = max(1, min(parts, size))
    edges = [round(i * size / parts) for i in range(parts + 1)]
    cuts = [slice(a, b) for a, b in itertools.pairwise(edges) if b > a]
    return [_mapped(batch, itemgetter(cut)) for cut in cuts]


def to_device(batch: Any, device: torch.device) -> Any:
    """Return a batch on the device, where its uint8 images become float32 in [0, 1].

    From pinned memory the copy does not wait.
    """
    moved = _moved(batch, device)
    return with_float_images(moved) if isinstance(moved, Mapping) else moved


def collate(samples: Any) -> Any:
    """Return samples as one batch; for a ``DataLoader`` of one's own over a gathering dataset.

    What the dataset has gathered is taken as it is, and not apart and together again.
    """
    if isinstance(samples, Collated):
        return with_float_images(samples.batch)
    return default_collate(samples)


def with_float_images(batch: Batch) -> dict[str, Any]:
    """Return a batch whose uint8 images are float32 in [0, 1]."""
    observations = batch.get("observations")
    if not isinstance(observations, Mapping):
        return dict(batch)
    return {**batch, "observations": {k: float_image(v) for k, v in observations.items()}}


def _moved(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True) if batch.device != device else batch
    if isinstance(batch, Mapping):
        return {k: _moved(v, device) for k, v in batch.items()}
    if isinstance(batch, (list, tuple)) and any(isinstance(v, torch.Tensor) for v in batch):
        return type(batch)(_moved(v, device) for v in batch)
    return batch


def pinned(batch: Any) -> Any:
    """Return a batch in pinned memory, from which a copy to a GPU need not be waited for."""
    return _mapped(batch, lambda v: v.pin_memory() if isinstance(v, torch.Tensor) else v)


def _mapped(node: Any, function: Callable[[Any], Any]) -> Any:
    if isinstance(node, Mapping):
        return {k: _mapped(v, function) for k, v in node.items()}
    return function(node)
