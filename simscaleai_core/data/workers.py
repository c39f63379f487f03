"""Drawing batches, here or in loader workers, so that the number of workers changes nothing."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from threading import Thread
from typing import Any

import torch
from attrs import frozen
from torch import Tensor
from torch.utils.data import DataLoader, Subset, default_collate

from simscaleai_core.contracts import Batch, Collated, Transform
from simscaleai_core.data.batches import collate, pinned
from simscaleai_core.errors import DataError, reason_of
from simscaleai_core.seeding import seed_host, seeded_host, stream_seed

Indices = list[int]
NamedTransforms = Sequence[tuple[str, Transform]]

_ODD = 0x5851F42D4C957F2D  # Knuth's multiplier for 64 bits
_NO_SIGN = 2**63 - 1  # NumPy takes no negative seed
_TIMEOUT_S = 300  # a batch that cannot be pickled would otherwise be waited for for ever


def drawn(
    loader: DataLoader[Any],
    numbered: Iterator[tuple[int, Indices]],
    *,
    seed: int,
    stream: tuple[str | int, ...],
    transforms: NamedTransforms = (),
    steps_per_epoch: int = 0,
) -> Iterator[Batch]:
    """Yield the batch of each (number, indices), with the loader's collate function and workers.

    Whatever the dataset draws from the global random generators is seeded by the number, and the
    key of a transform by the number's epoch. Data in memory is gathered here: it draws nothing, and
    workers would only copy it; not so if it is transformed. Batches are in pinned memory if the
    loader asks for it.
    """
    batches = _SeededBatches(
        loader.dataset, loader.collate_fn, seed, stream, tuple(transforms), steps_per_epoch
    )
    in_memory = is_in_memory(loader.dataset) and not transforms
    if loader.num_workers and not in_memory:
        yield from _received(_in_workers(loader, numbered, batches))
        return
    for number, indices in numbered:
        with nullcontext() if in_memory else seeded_host(batches.seed_of(number)):
            batch = batches.gather(number, indices)
        yield pinned(batch) if loader.pin_memory else batch


def is_in_memory(dataset: Any) -> bool:
    """Tell whether samples of a dataset need no reading, seen through any ``Subset``."""
    return bool(getattr(unwrapped(dataset), "in_memory", False))


def sample_keys(seed: int, epoch: int, indices: Indices, *stream: str) -> Tensor:
    """Return a key int64 `[B]` for each sample, a function of seed, epoch and index alone.

    Those of another stream are other ones: two transforms must not draw the same noise.

    Source:
        Ours: the seed of the epoch's stream plus the index times an odd number, modulo 2**64.
    """
    return stream_seed(seed, "keys", *stream, epoch) + torch.tensor(indices) * _ODD


def unwrapped(dataset: Any) -> Any:
    """Return the dataset under any ``Subset``."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return dataset


@frozen
class _SeededBatches(torch.utils.data.Dataset[Batch]):
    """Whole batches by (number, indices), each under a seed that depends on its number only."""

    dataset: Any
    collate: Callable[[Any], Batch]
    seed: int
    stream: tuple[str | int, ...]
    transforms: NamedTransforms = ()
    steps_per_epoch: int = 0

    def seed_of(self, number: int) -> int:
        return stream_seed(self.seed, *self.stream, number)

    def gather(self, number: int, indices: Indices) -> Batch:
        """Collate samples; torch's own function leaves what a dataset has gathered as it is."""
        whole = getattr(self.dataset, "__getitems__", None)
        samples: Any = whole(indices) if whole else [self.dataset[i] for i in indices]
        epoch = number // self.steps_per_epoch if self.steps_per_epoch else 0
        for name, transform in self.transforms:
            keys = sample_keys(self.seed, epoch, indices, name.rpartition("/")[2]) & _NO_SIGN
            pairs = zip(samples, keys.tolist(), strict=True)
            samples = [_transformed(name, transform, sample, key) for sample, key in pairs]
        is_whole = isinstance(samples, Collated) and self.collate in (default_collate, collate)
        return samples.batch if is_whole else self.collate(samples)

    def __getitem__(self, item: tuple[int, Indices]) -> Any:
        """Return the batch in a worker; an exception of any kind as one that can be pickled."""
        number, indices = item
        seed_host(self.seed_of(number))
        try:
            return self.gather(number, indices)
        except DataError as error:
            return error
        except Exception as error:  # noqa: BLE001 - one that cannot be pickled would hang the loader
            return DataError(
                f"the dataset raised {type(error).__name__} in a loader worker: {error}. "
                "Run with num_workers=0 to see where."
            )


def _transformed(name: str, transform: Transform, sample: Any, key: int) -> dict[str, Any]:
    try:
        return dict(transform(sample, key))
    except Exception as error:
        keys = ", ".join(map(repr, sample)) if isinstance(sample, Mapping) else sample
        raise DataError(
            f"the transform {name!r} failed, {reason_of(error)}: expected a new sample, "
            f"given one with {keys}. Mend it, or train without it."
        ) from error


def _in_workers(
    loader: DataLoader[Any], numbered: Iterator[tuple[int, Indices]], batches: _SeededBatches
) -> DataLoader[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the user's own loader has warned already
        return DataLoader(
            batches,
            batch_size=None,
            sampler=numbered,
            num_workers=loader.num_workers,
            collate_fn=_identity,
            pin_memory=loader.pin_memory,
            timeout=loader.timeout or _TIMEOUT_S,
            worker_init_fn=partial(_begin_worker, loader.worker_init_fn),
            multiprocessing_context=loader.multiprocessing_context,
            prefetch_factor=loader.prefetch_factor,
            generator=torch.Generator(),  # the loader's base seed must not come from ours
        )


def _begin_worker(then: Callable[[int], None] | None, number: int) -> None:
    """Begin a worker that ends with its parent, however early that is killed."""

    def end_with(parent: Any) -> None:
        parent.join()
        os._exit(1)

    Thread(target=end_with, args=(multiprocessing.parent_process(),), daemon=True).start()
    if then is not None:
        then(number)


def _identity(value: Any) -> Any:
    return value


def _received(batches: Iterable[Any]) -> Iterator[Batch]:
    """Yield the batches that workers send; an exception, death or silence is a `DataError`."""
    try:
        for batch in batches:  # a worker may die before all have started
            if isinstance(batch, DataError):
                raise batch
            yield batch
    except RuntimeError as error:
        reason = (str(error).splitlines() or ["no reason given"])[0].rstrip(". ")
        raise DataError(
            f"a loader worker failed: {reason}. Lower num_workers, check the memory, or run with "
            "num_workers=0 to see where."
        ) from error
