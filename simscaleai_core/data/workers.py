"""Drawing batches, here or in loader workers, so that the number of workers changes nothing."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from attrs import frozen
from torch.utils.data import DataLoader, Subset
from torch.utils.data import default_collate as torch_collate

from simscaleai_core.contracts import Batch, Collated
from simscaleai_core.data.batches import pinned
from simscaleai_core.errors import DataError
from simscaleai_core.seeding import seed_host, seeded_host, stream_seed

Collate = Callable[[Any], Batch]
Indices = list[int]

_TIMEOUT_S = 300  # a batch that cannot be pickled would otherwise be waited for for ever


def gather(dataset: Any, indices: Indices) -> Any:
    """Return samples by index, as one batch where the dataset can."""
    whole = getattr(dataset, "__getitems__", None)
    return whole(indices) if whole else [dataset[i] for i in indices]


def drawn(
    loader: DataLoader[Any],
    numbered: Iterator[tuple[int, Indices]],
    *,
    seed: int,
    stream: tuple[str | int, ...],
) -> Iterator[Batch]:
    """Yield the batch of each (number, indices), with the loader's collate function and workers.

    Whatever the dataset draws from the global random generators is seeded by the number. Data in
    memory is gathered here: it draws nothing, and workers would only copy it. Batches are in
    pinned memory if the loader asks for it.
    """
    dataset, collate = loader.dataset, collate_of(loader)
    in_memory = is_in_memory(dataset)
    if loader.num_workers and not in_memory:
        yield from _drawn_in_workers(
            loader, numbered, SeededBatches(dataset, collate, seed, stream)
        )
        return
    for number, indices in numbered:
        with nullcontext() if in_memory else seeded_host(stream_seed(seed, *stream, number)):
            batch = collate(gather(dataset, indices))
        yield pinned(batch) if loader.pin_memory else batch


def _drawn_in_workers(
    loader: DataLoader[Any], numbered: Iterator[tuple[int, Indices]], batches: SeededBatches
) -> Iterator[Batch]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the user's own loader has warned already
        inner: DataLoader[Any] = DataLoader(
            batches,
            batch_size=None,
            sampler=numbered,
            num_workers=loader.num_workers,
            collate_fn=_identity,
            pin_memory=loader.pin_memory,
            timeout=loader.timeout or _TIMEOUT_S,
            worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context,
            prefetch_factor=loader.prefetch_factor,
            generator=torch.Generator(),  # the loader's base seed must not come from ours
        )
    return received(inner)


def collate_of(loader: DataLoader[Any]) -> Collate:
    """Return the loader's collate function; torch's default one also takes whole batches."""
    return _collate if loader.collate_fn is torch_collate else loader.collate_fn


def is_in_memory(dataset: Any) -> bool:
    """Tell whether samples of a dataset need no reading, seen through any ``Subset``."""
    return bool(getattr(unwrapped(dataset), "in_memory", False))


def unwrapped(dataset: Any) -> Any:
    """Return the dataset under any ``Subset``."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return dataset


def _collate(samples: Any) -> Batch:
    batch: Batch = samples.batch if isinstance(samples, Collated) else torch_collate(samples)
    return batch


def _identity(value: Any) -> Any:
    return value


@frozen
class SeededBatches(torch.utils.data.Dataset[Batch]):
    """Gathers one whole batch in a worker, under a seed that depends on its number only."""

    dataset: Any
    collate: Collate
    seed: int
    stream: tuple[str | int, ...]

    def __getitem__(self, item: tuple[int, Indices]) -> Any:
        number, indices = item
        seed_host(stream_seed(self.seed, *self.stream, number))
        try:
            return self.collate(gather(self.dataset, indices))
        except Exception as error:  # noqa: BLE001 - one that cannot be pickled would hang the loader
            return WorkerFault.of(error)


def received(batches: Iterable[Any]) -> Iterator[Batch]:
    """Yield the batches that workers send; an exception, death or silence becomes one clear error.

    Raises:
        DataError: If a worker raised, died or timed out.
    """
    try:
        for batch in batches:  # a worker may die before all have started
            if isinstance(batch, WorkerFault):
                raise batch.error
            yield batch
    except RuntimeError as error:
        raise DataError(
            f"a loader worker failed: {str(error).splitlines()[0]} Lower num_workers, check "
            "the memory, or run with num_workers=0 to see where."
        ) from error


@frozen
class WorkerFault:
    """An exception of a worker, as an error that can be pickled."""

    error: DataError

    @classmethod
    def of(cls, error: Exception) -> WorkerFault:
        """Return a data error as it is, and any other exception as the text of one."""
        if isinstance(error, DataError):
            return cls(error)
        return cls(
            DataError(
                f"the dataset raised {type(error).__name__} in a loader worker: {error}. "
                "Run with num_workers=0 to see where."
            )
        )
