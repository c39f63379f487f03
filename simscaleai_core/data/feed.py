"""Endless, resumable batches from an ordinary ``DataLoader``.

The order of an epoch is a function of (seed, epoch) and the position in it a function of the step,
so a resumed run asks for step k's batch and gets what the uninterrupted run got. Nothing of the
loader's state is saved: its sampler is replayed under a seed of ours. Whatever a dataset draws from
the global random generators is seeded per batch as well, so that the number of workers changes
nothing.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from operator import index
from typing import Any

import torch
from attrs import evolve
from torch.utils.data import DataLoader, IterableDataset

from simscaleai_core.contracts import Batch, DataSpec, Sampler
from simscaleai_core.data.workers import (
    Indices,
    NamedTransforms,
    drawn,
    is_in_memory,
    sample_keys,
    unwrapped,
)
from simscaleai_core.errors import ConfigError, DataError, reason_of
from simscaleai_core.seeding import seeded_host, stream_seed

logger = logging.getLogger("simscaleai")


class MapFeed:
    """Batches of a map-style dataset, in an order that can be replayed.

    The user's loader gives sampler, batch size, collate function and workers; a `sampler`, named,
    takes the place of the loader's. Step k takes `world_size` consecutive batches of the order, and
    each rank one of them. `facts` say whether resume is exact; `has_keys` adds ``sample_keys``.
    """

    def __init__(
        self,
        loader: DataLoader[Any],
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        has_keys: bool = False,
        accumulate: int = 1,
        sampler: tuple[str, Sampler] | None = None,
        transforms: NamedTransforms = (),
    ) -> None:
        self._loader, self._seed, self._has_keys = loader, seed, has_keys
        self._sampler, self._transforms, self._per_epoch = sampler, transforms, 0
        self._rank, self._world_size = rank, world_size
        self._orders: dict[int, list[Indices]] = {}
        self.steps_per_epoch = len(self._order(0)) // world_size
        if self.steps_per_epoch == 0:
            raise DataError(
                f"the data is too small: {len(loader.dataset)} samples do not fill one step of "  # type: ignore[arg-type]
                f"{loader.batch_size} samples on each of {world_size} ranks. Use a smaller "
                "batch_size, or drop_last=False."
            )
        size = max(map(len, self._order(0)))
        if accumulate > size:
            raise ConfigError(
                f"accumulate={accumulate} is more than the samples of a batch: expected at most "
                f"{size}. Lower accumulate, or use a larger batch_size."
            )
        if rank == 0 and loader.batch_size and size < loader.batch_size:
            logger.warning(
                "batch_size=%d is more than the data has: each step trains on all of its %d "
                "samples. Use a smaller batch_size.", loader.batch_size, size,
            )  # fmt: skip

    @property
    def facts(self) -> dict[str, str]:
        """Say whether resume is exact, else why not, and how many workers read the data and why."""
        exact = self._batches_of(0) == self._batches_of(0)
        workers = str(self._loader.num_workers)
        in_memory = is_in_memory(self._loader.dataset) and not self._transforms
        if in_memory and self._loader.num_workers:
            workers = f"0 (the data is in memory; {workers} workers would only copy it)"
        sampler = self._sampler[0] if self._sampler else type(self._loader.sampler).__name__
        inexact = f"not replayable: {sampler} draws from a source of its own"
        return {"order": "replayed" if exact else inexact, "workers": workers}

    def batches(self, start: int) -> Iterator[Batch]:
        """Yield the batch of each step, from step `start` on, for ever."""
        seed, stream = self._seed, ("samples", self._rank)
        batches = drawn(
            self._loader, self._stream(start), seed=seed, stream=stream,
            transforms=self._transforms, steps_per_epoch=self.steps_per_epoch,
        )  # fmt: skip
        if not self._has_keys:
            return batches
        epochs = ((step // self.steps_per_epoch, i) for step, i in self._stream(start))
        keys = (sample_keys(seed, epoch, indices) for epoch, indices in epochs)
        return ({**b, "sample_keys": k} for b, k in zip(batches, keys, strict=True))

    def _stream(self, start: int) -> Iterator[tuple[int, Indices]]:
        return ((step, self.indices(step)) for step in itertools.count(start))

    def indices(self, step: int) -> Indices:
        """Return which samples this rank trains on in the step that follows `step` others."""
        epoch, position = divmod(step, self.steps_per_epoch)
        return self._order(epoch)[position * self._world_size + self._rank]

    def _order(self, epoch: int) -> list[Indices]:
        if epoch not in self._orders:
            order = self._batches_of(epoch)
            if self._world_size > 1:  # a short last batch would weigh too much on its rank
                order = [indices for indices in order if len(indices) == len(order[0])]
            near = {e: o for e, o in self._orders.items() if abs(e - epoch) == 1}
            self._orders = {**near, epoch: order}  # workers may be ahead by an epoch
        return self._orders[epoch]

    def _batches_of(self, epoch: int) -> list[Indices]:
        if self._sampler is None:
            return _replay(self._loader, self._seed, epoch)
        name, sampler = self._sampler
        found = sampler.order(self._loader.dataset, self._seed, epoch)
        try:
            indices = list(map(index, found.tolist() if hasattr(found, "tolist") else found))
        except TypeError as error:
            raise DataError(
                f"the sampler {name!r} cannot be used: expected a sequence of indices, got "
                f"{type(found).__name__} ({reason_of(error)})."
            ) from error
        total, size = len(self._loader.dataset), self._loader.batch_size or 0  # type: ignore[arg-type]
        strange = [i for i in indices if not 0 <= i < total]
        self._per_epoch = self._per_epoch or len(indices)
        if strange or not size or len(indices) != self._per_epoch:
            raise DataError(
                f"the sampler {name!r} cannot be used: expected {self._per_epoch} indices below "
                f"{total} in epoch {epoch}, for a loader with a batch_size; found {len(indices)}, "
                f"{strange[:3] or 'none'} of them outside, and batch_size={size or None}."
            )
        batches = [indices[i : i + size] for i in range(0, len(indices), size)]
        return [b for b in batches if len(b) == size or not self._loader.drop_last]


class IterableFeed:
    """Batches of something that can only be iterated: an iterable dataset, or a list of batches.

    Of several ranks each takes every `world_size`-th batch.
    """

    def __init__(self, batches: Iterable[Batch], *, rank: int = 0, world_size: int = 1) -> None:
        self._batches, self._rank, self._world_size = batches, rank, world_size
        known = isinstance(batches, Sequence)
        self.steps_per_epoch = len(batches) // world_size if known else None  # type: ignore[arg-type]
        kind = type(getattr(batches, "dataset", batches)).__name__
        inexact = f"not replayable: {kind} can only be read through again"
        workers = str(getattr(batches, "num_workers", 0))
        self.facts = {"order": "replayed" if known else inexact, "workers": workers}

    def batches(self, start: int) -> Iterator[Batch]:
        """Yield the batch of each step, from step `start` on, for ever, if there is any."""
        position = -1
        for _ in itertools.count():
            before = position
            for batch in self._batches:
                position += 1
                step, turn = divmod(position, self._world_size)
                if step >= start and turn == self._rank:
                    yield batch
            if position == before:
                raise DataError(
                    "the data gives no batch: expected at least one, got an empty iteration. "
                    "Check the loader's dataset; an iterator that is used up cannot be read again."
                )


Feed = MapFeed | IterableFeed


def build_feed(loader: Any, *, rank: int = 0, world_size: int = 1, **order: Any) -> Feed:
    """Return the feed for a ``DataLoader``, or for any iterable of batches to be read again.

    What else a `MapFeed` takes is of no use to an iterable.

    Raises:
        ConfigError: If a sampler or transforms are to work on what can only be iterated.
    """
    if is_replayable(loader):
        return MapFeed(loader, rank=rank, world_size=world_size, **order)
    if order.get("sampler") or order.get("transforms"):
        kind = type(getattr(loader, "dataset", loader)).__name__
        raise ConfigError(
            f"a sampler or a transform needs a DataLoader of a dataset with indices, got {kind}."
        )
    return IterableFeed(loader, rank=rank, world_size=world_size)


def describe(loader: Any, transforms: NamedTransforms = ()) -> DataSpec | None:
    """Return what a loader's dataset says of itself, seen through any ``Subset``, or None.

    Transforms say what they make of it.
    """
    base = unwrapped(getattr(loader, "dataset", loader))
    data = base.describe() if hasattr(base, "describe") else None
    for _, transform in transforms:
        ask = getattr(transform, "describe", None)
        if ask is not None and data is not None:
            before, data = data, ask(data)
            if data.statistics != before.statistics:  # what was read is not what is trained on
                data = evolve(data, numbers=None, sources={})
    return data


def eval_batches(
    loader: Any,
    *,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    transforms: NamedTransforms = (),
) -> Iterator[Batch]:
    """Return this rank's batches of an evaluation loader; each batch is on one rank only.

    What the dataset draws depends on the seed and the batch, not on workers or ranks.
    """
    if is_replayable(loader):
        numbered = enumerate(list(indices) for indices in loader.batch_sampler)
        mine = itertools.islice(numbered, rank, None, world_size)
        return drawn(loader, mine, seed=seed, stream=("eval",), transforms=transforms)
    return itertools.islice(loader, rank, None, world_size)


def is_replayable(loader: Any) -> bool:
    """Tell whether a loader has a sampler of known length over a dataset with indices."""
    return (
        isinstance(loader, DataLoader)
        and not isinstance(loader.dataset, IterableDataset)
        and hasattr(loader.batch_sampler, "__len__")
    )


def _replay(loader: DataLoader[Any], seed: int, epoch: int) -> list[Indices]:
    """Run the loader's own sampler for one epoch under a seed that depends on the epoch only."""
    sampler = loader.sampler
    for part in (sampler, loader.batch_sampler):
        set_epoch = getattr(part, "set_epoch", None)
        if set_epoch is not None:
            set_epoch(epoch)
    epoch_seed = stream_seed(seed, "order", epoch)
    generator: torch.Generator = getattr(sampler, "generator", None) or torch.Generator()
    kept = generator.get_state()
    with seeded_host(epoch_seed):
        generator.manual_seed(epoch_seed)
        batches: Iterable[Any] = loader.batch_sampler or ()
        order = [list(indices) for indices in batches]
    generator.set_state(kept)
    return order
