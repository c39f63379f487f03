"""What the benchmarks of data share: batches of the Trainer's own feed, and the clock over them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from typing import Any

from rounds import Cost
from torch.utils.data import DataLoader

from simscaleai_core.data.feed import build_feed

Batches = Callable[[], Iterable[Any]]
"""Begins an epoch."""


def measure(batches: Batches, num_batches: int, batch_size: int) -> Cost:
    """Time batches from asking for the first on.

    Args:
        batches: Begins an epoch.
        num_batches: Batches to take.
        batch_size: Samples of a batch.

    Returns:
        What one sample took.
    """
    begin, begin_cpu = time.perf_counter(), time.process_time()
    num_taken = sum(1 for _ in itertools.islice(batches(), num_batches))
    wall, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
    num_samples = num_taken * batch_size
    return Cost(wall_s=wall / num_samples, cpu_s=cpu / num_samples)


def fed(loader: DataLoader[Any]) -> Batches:
    """Return batches as a run gets them, each time of an epoch that is not shuffled yet."""
    feed, epochs = build_feed(loader, seed=0), itertools.count(1)
    return lambda: feed.batches(next(epochs) * (feed.steps_per_epoch or 0))
