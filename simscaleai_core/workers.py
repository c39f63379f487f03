"""Drawing batches in loader workers so that their number changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from attrs import define, frozen

from simscaleai_core.contracts import Batch
from simscaleai_core.errors import DataError
from simscaleai_core.seeding import seed_host, stream_seed

Collate = Callable[[Any], Batch]
Indices = list[int]


def gather(dataset: Any, indices: Indices) -> Any:
    """Return samples by index, as one batch where the dataset can."""
    whole = getattr(dataset, "__getitems__", None)
    return whole(indices) if whole else [dataset[i] for i in indices]


@define
class Stream:
    """A sampler over (step, indices) that never ends, so that workers never restart."""

    steps: Iterator[tuple[int, Indices]]

    def __iter__(self) -> Iterator[tuple[int, Indices]]:
        return self.steps


@frozen
class SeededBatches(torch.utils.data.Dataset[Batch]):
    """Gathers one whole batch in a worker, under a seed that depends on the step only."""

    dataset: Any
    collate: Collate
    seed: int
    rank: int

    def __getitem__(self, item: tuple[int, Indices]) -> Any:
        step, indices = item
        seed_host(stream_seed(self.seed, "samples", self.rank, step))
        try:
            return self.collate(gather(self.dataset, indices))
        except Exception as error:  # noqa: BLE001 - one that cannot be pickled would hang the loader
            return WorkerFault.of(error)


def received(batches: Iterator[Any]) -> Iterator[Batch]:
    """Yield what workers send; a worker's exception, death or silence becomes one clear error.

    Args:
        batches: The iterator of a ``DataLoader`` over `SeededBatches`.

    Yields:
        Batches.

    Raises:
        DataError: If a worker raised, died or timed out.
    """
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except RuntimeError as error:
            raise DataError(
                f"a loader worker failed: {str(error).splitlines()[0]} Lower num_workers, check "
                "the memory, or run with num_workers=0 to see where."
            ) from error
        if isinstance(batch, WorkerFault):
            batch.raise_it()
        yield batch


@frozen
class WorkerFault:
    """An exception of a worker, as text that can always be pickled."""

    kind: str
    text: str
    path: Any = None
    episode: str | None = None
    key: str | None = None

    @classmethod
    def of(cls, error: Exception) -> WorkerFault:
        """Return the text of an exception."""
        if isinstance(error, DataError):
            return cls("DataError", str(error), error.path, error.episode, error.key)
        return cls(type(error).__name__, str(error))

    def raise_it(self) -> None:
        """Raise in the main process what was raised in the worker.

        Raises:
            DataError: Always; with the data of the worker's own if that was one.
        """
        if self.kind == "DataError":
            raise DataError(self.text, path=self.path, episode=self.episode, key=self.key)
        raise DataError(
            f"the dataset raised {self.kind} in a loader worker: {self.text}. "
            "Run with num_workers=0 to see where."
        )
