"""Several datasets as one, in proportions of their own.

N: samples of all datasets, S: datasets, B: samples of a batch.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

import torch
from attrs import evolve
from torch import Tensor
from torch.utils.data import Dataset, Sampler, default_collate

from simscaleai_core.contracts import Collated, DataSpec
from simscaleai_core.data.statistics import pooled
from simscaleai_core.data.workers import is_in_memory, unwrapped
from simscaleai_core.errors import ConfigError, DataError
from simscaleai_core.seeding import stream_seed

_NEXT = "\n  "


class Mixture(Dataset[dict[str, Any]]):
    """The samples of several datasets that describe themselves, one after the other.

    Without weights every sample comes once an epoch. With weights the sampler ``mixture`` draws
    from each dataset in its proportion, and the statistics are weighted by them too.

    Args:
        datasets: The datasets, with the same keys, actions and windows.
        weights: The share of each dataset, above 0; they need not add up to 1.
        names: What to call the datasets, numbered if one comes again; if not given, their paths.

    Raises:
        ConfigError: If the weights are not one positive number for each dataset, or one of these
            does not describe itself.
        DataError: If the datasets do not fit together.
    """

    def __init__(
        self,
        datasets: Sequence[Any],
        weights: Sequence[float] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        given = list(weights) if weights else None
        if given and (
            len(given) != len(datasets) or not all(w > 0 and math.isfinite(w) for w in given)
        ):
            raise ConfigError(
                f"weights: expected {len(datasets)} numbers above 0, one for each dataset, got "
                f"{given}."
            )
        self.datasets = tuple(datasets)
        paths = (str(getattr(d, "path", i)) for i, d in enumerate(datasets))
        self.names = tuple(_distinct(names or paths))
        short = [name.rstrip("/").rpartition("/")[2] for name in self.names]
        self._shown = short if len(set(short)) == len(short) else self.names
        self.is_weighted = given is not None
        self.sizes = tuple(map(len, self.datasets))
        """Samples of each dataset."""
        shares = given or self.sizes
        self.weights = tuple(share / sum(shares) for share in shares)
        """Share of each dataset; they add up to 1."""
        parts = dict(zip(self.names, map(unwrapped, self.datasets), strict=True))
        if silent := [name for name, part in parts.items() if not hasattr(part, "describe")]:
            raise ConfigError(
                f"{', '.join(silent)} cannot be part of a mixture: expected datasets that describe "
                "themselves. Give theirs the method describe()."
            )
        self._specs = [part.describe() for part in parts.values()]
        _check_fit(self._specs, self.names)
        self._ends = torch.tensor(self.sizes).cumsum(0)

    @property
    def in_memory(self) -> bool:
        """Whether no sample needs reading."""
        return all(map(is_in_memory, self.datasets))

    def __len__(self) -> int:
        """Return the number of samples."""
        return sum(self.sizes)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one sample; a negative index counts from the end.

        Raises:
            IndexError: If the index is outside the dataset.
        """
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"sample {index}: expected 0 to {len(self) - 1}")
        source = int(torch.searchsorted(self._ends, place, right=True))
        sample = self.datasets[source][place - self._start(source)]
        return {**sample, "source": self._shown[source]}

    def __getitems__(self, indices: Sequence[int] | Tensor) -> Collated:
        """Return a whole batch: of each dataset its part, in the order of the indices.

        Args:
            indices: Indices of samples `[B]`, not negative.

        Returns:
            The samples as one batch, with the name of each sample's dataset under ``"source"``.
        """
        places = torch.as_tensor(indices, dtype=torch.int64).view(-1)
        owners = torch.searchsorted(self._ends, places, right=True)
        parts, order = [], []
        for source in sorted(set(owners.tolist())):
            mine = torch.nonzero(owners == source).flatten()
            parts.append(self._part(source, (places[mine] - self._start(source)).tolist()))
            order.append(mine)
        batch = _joined(parts, torch.cat(order).argsort())
        batch["source"] = [self._shown[owner] for owner in owners.tolist()]
        return Collated(batch, len(places))

    def describe(self) -> DataSpec:
        """Return what the datasets hold together; an environment only if it is the same in all."""
        specs = self._specs
        first: DataSpec = specs[0]
        known = set.intersection(*(set(s.statistics) for s in specs))
        digest = hashlib.blake2b(digest_size=16)
        weights = self.weights if self.is_weighted else None
        digest.update(repr(([s.fingerprint for s in specs], weights)).encode())
        return evolve(
            first,
            statistics={
                key: pooled([s.statistics[key] for s in specs], self.weights)
                for key in first.statistics
                if key in known
            },
            instructions=tuple(sorted({text for s in specs for text in s.instructions})),
            num_episodes=sum(s.num_episodes for s in specs),
            num_samples=len(self),
            fingerprint=digest.hexdigest(),
            env=first.env if len({s.env for s in specs}) == 1 else None,
            numbers=None,
            sources=dict(zip(self._shown, zip(self.weights, specs, strict=True), strict=True)),
        )

    def split(self, fraction: float, seed: int) -> tuple[Self, Self]:
        """Split each dataset by episode; one with a single episode is trained on as a whole.

        Args:
            fraction: Part of the episodes of each dataset to hold out (0 to 1).
            seed: Chooses the episodes.

        Returns:
            The part to train on, with the same weights, and the part held out.

        Raises:
            DataError: If no dataset has two episodes.
        """
        names, kept, held = [], [], []
        for name, dataset, spec in zip(self.names, self.datasets, self._specs, strict=True):
            parts = dataset.split(fraction, seed) if spec.num_episodes > 1 else (dataset, None)
            kept.append(parts[0])
            if parts[1] is not None:
                names.append(name)
                held.append(parts[1])
        if not held:
            raise DataError(
                "a split by episode: expected a dataset with at least 2 episodes, got one in each "
                f"of {', '.join(self.names)}. Record more episodes, or hold nothing out."
            )
        weights = self.weights if self.is_weighted else None
        return type(self)(kept, weights, self.names), type(self)(held, names=names)

    def _start(self, source: int) -> int:
        return int(self._ends[source]) - self.sizes[source]

    def _part(self, source: int, indices: list[int]) -> Any:
        dataset = self.datasets[source]
        whole = getattr(dataset, "__getitems__", None)
        found = whole(indices) if whole else [dataset[i] for i in indices]
        return found.batch if isinstance(found, Collated) else default_collate(found)


class Batches(Sampler[list[int]]):
    """Batches of consecutive samples that hold one dataset each, as a loss by dataset needs them.

    Args:
        data: The datasets.
        size: Samples of a batch; the last one of each dataset may have fewer.
    """

    def __init__(self, data: Mixture, size: int) -> None:
        ends = list(itertools.accumulate(data.sizes))
        self._batches = [
            list(range(first, min(first + size, end)))
            for end, length in zip(ends, data.sizes, strict=True)
            for first in range(end - length, end, size)
        ]

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        """Iterate over the indices of each batch."""
        return iter(self._batches)


def mixed_order(sizes: Sequence[int], weights: Sequence[float], seed: int, epoch: int) -> Tensor:
    """Return an epoch's samples, of which any few in a row are in the proportions of the weights.

    Each dataset is gone through in permutations of its own, on from where the last epoch ended, so
    that no sample comes twice before all have come once.

    Args:
        sizes: Samples of each dataset.
        weights: Share of each; they add up to 1.
        seed: Root seed.
        epoch: Number of the epoch.

    Returns:
        Indices int64 `[N]`, a function of the arguments alone.

    Source:
        Ours: the n-th of c samples of a dataset stands at (n + 1/2) / c, and all are sorted.
    """
    total = sum(sizes)
    counts = [int(weight * total) for weight in weights]
    by_rest = sorted(range(len(sizes)), key=lambda s: counts[s] - weights[s] * total)
    for source in by_rest[: total - sum(counts)]:
        counts[source] += 1
    places = [(torch.arange(c, dtype=torch.float64) + 0.5) / max(c, 1) for c in counts]
    starts = [sum(sizes[:source]) for source in range(len(sizes))]
    drawn = [
        start + _stretch(size, epoch * count, count, (seed, "mixture", source))
        for source, (start, size, count) in enumerate(zip(starts, sizes, counts, strict=True))
    ]
    return torch.cat(drawn)[torch.cat(places).argsort(stable=True)]


def _stretch(size: int, start: int, count: int, stream: tuple[int, str, int]) -> Tensor:
    """Return `count` numbers below `size` from permutations that follow one another."""
    parts = []
    for turn in range(start // size, -(-(start + count) // size)):
        generator = torch.Generator().manual_seed(stream_seed(*stream, turn))
        low, high = max(start - turn * size, 0), min(start + count - turn * size, size)
        parts.append(torch.randperm(size, generator=generator)[low:high])
    return torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)


def _distinct(names: Iterable[str]) -> Iterator[str]:
    seen: Counter[str] = Counter()
    for name in names:
        yield f"{name}[{seen[name]}]" if seen[name] else name
        seen[name] += 1


def _joined(parts: Sequence[Any], order: Tensor) -> Any:
    if isinstance(parts[0], Mapping):
        return {key: _joined([part[key] for part in parts], order) for key in parts[0]}
    if isinstance(parts[0], Tensor):
        return torch.cat(list(parts)).index_select(0, order)
    values = [value for part in parts for value in part]
    return [values[place] for place in order.tolist()]


def _check_fit(specs: Sequence[DataSpec], names: Sequence[str]) -> None:
    tables = [_table(spec) for spec in specs]
    wrong = [
        key
        for key in dict.fromkeys(key for table in tables for key in table)
        if len({table.get(key, "none") for table in tables}) > 1
    ]
    if wrong:
        lines = [
            f"{key}: "
            + "; ".join(f"{t.get(key, 'none')} in {n}" for t, n in zip(tables, names, strict=True))
            for key in wrong
        ]
        raise DataError(
            f"{len(specs)} datasets do not fit together: expected the same keys, actions and "
            "windows in each. Rename keys, or choose those that all have (rename, obs_keys).\n  "
            + _NEXT.join(lines)
        )


def _table(spec: DataSpec) -> dict[str, str]:
    return {
        **{f"observation {key!r}": str(list(s)) for key, s in sorted(spec.observations.items())},
        "actions": f"[{spec.action_dim}]",
        "seq_len": str(spec.seq_len),
        "obs_len": str(spec.obs_len),
        "pad": str(spec.pad),
        "language": str(spec.language),
    }
