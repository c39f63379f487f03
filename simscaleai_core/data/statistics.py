"""Statistics and fingerprint of the packed numbers of some episodes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from simscaleai_core.contracts import Statistics
from simscaleai_core.data.loading import Loaded
from simscaleai_core.data.source import Key

Spans = Sequence[tuple[int, int]]

_BLOCK_ROWS = 65536
_BLOCK_NUMBERS = 2**22
_QUANTILES = {"q01": 0.01, "q99": 0.99}


def key_statistics(loaded: Loaded, episodes: Sequence[int]) -> dict[str, Statistics]:
    """Measure every low-dimensional key and the actions, over all timesteps of some episodes.

    Args:
        loaded: What was read.
        episodes: Positions of the episodes.

    Returns:
        Statistics by key, in the units of the data.

    Source:
        Ours: mean, then mean squared distance from it, both summed in float64; quantiles are
        interpolated between neighbours, as NumPy does.
    """
    matrix = loaded.matrix.numpy()
    spans = _spans(loaded, episodes)
    count = sum(stop - start for start, stop in spans)
    mean = _total(matrix, spans) / count
    std = np.sqrt(_total(matrix, spans, around=mean) / count)
    found = {"mean": mean, "std": std, **_order_statistics(matrix, spans)}
    statistics, column = {}, 0
    for key in loaded.packed:
        columns = slice(column, column + key.width)
        statistics[key.name] = Statistics(**{n: _floats(v[columns]) for n, v in found.items()})
        column = columns.stop
    return statistics


def pooled(parts: Sequence[Statistics], weights: Sequence[float]) -> Statistics:
    """Return the statistics of a mixture: mean and deviation are those of its samples.

    The range is that of all `parts`, and so are the quantiles: of no part is more than 1% beyond
    either. The `weights` add up to 1.
    """

    def over_all(name: str, choose: Callable[[Iterable[float]], float]) -> Any:
        values = [getattr(part, name) for part in parts]
        return None if None in values else tuple(map(choose, zip(*values, strict=True)))

    pairs = list(zip(weights, parts, strict=True))
    means = [sum(w * p.mean[d] for w, p in pairs) for d in range(len(parts[0].mean))]
    squares = [
        sum(w * (p.std[d] ** 2 + (p.mean[d] - mean) ** 2) for w, p in pairs)
        for d, mean in enumerate(means)
    ]
    return Statistics(
        mean=tuple(means), std=tuple(map(math.sqrt, squares)), low=over_all("low", min),
        high=over_all("high", max), q01=over_all("q01", min), q99=over_all("q99", max),
    )  # fmt: skip


def fingerprint(loaded: Loaded, episodes: Sequence[int]) -> str:
    """Digest the low-dimensional numbers, the shapes and the instructions of some episodes.

    Args:
        loaded: What was read.
        episodes: Positions of the episodes.

    Returns:
        A digest of 32 hexadecimal digits.

    Source:
        Ours: BLAKE2b over names, shapes, lengths, instructions and float32 rows.
    """
    digest = hashlib.blake2b(digest_size=16)
    keys: tuple[Key, ...] = (*loaded.observations, loaded.actions)
    lengths = [loaded.episodes[e].length for e in episodes]
    language = loaded.language and [_alone(loaded.language[e]) for e in episodes]
    digest.update(repr(([(key.name, key.shape) for key in keys], lengths, language)).encode())
    matrix = loaded.matrix.numpy()
    for start, stop in _spans(loaded, episodes):
        digest.update(matrix[start:stop].tobytes())
    return digest.hexdigest()


def _alone(texts: tuple[str, ...]) -> str | tuple[str, ...]:
    return texts[0] if len(texts) == 1 else texts


def _spans(loaded: Loaded, episodes: Sequence[int]) -> Spans:
    # Blocks of rows; episodes that touch are joined first.
    joined: list[tuple[int, int]] = []
    for episode in episodes:
        start, stop = int(loaded.offsets[episode]), int(loaded.offsets[episode + 1])
        if joined and joined[-1][1] == start:
            start = joined.pop()[0]
        joined.append((start, stop))
    rows = max(1, min(_BLOCK_ROWS, _BLOCK_NUMBERS // loaded.matrix.shape[1]))
    return [block for start, stop in joined for block in _blocks(start, stop, rows)]


def _blocks(start: int, stop: int, rows: int) -> Iterator[tuple[int, int]]:
    for begin in range(start, stop, rows):
        yield begin, min(begin + rows, stop)


def _total(
    matrix: npt.NDArray[np.float32], spans: Spans, *, around: npt.NDArray[np.float64] | None = None
) -> npt.NDArray[np.float64]:
    total = np.zeros(matrix.shape[1], dtype=np.float64)
    for start, stop in spans:
        block = matrix[start:stop].astype(np.float64)
        total += block.sum(axis=0) if around is None else np.square(block - around).sum(axis=0)
    return total


def _order_statistics(matrix: npt.NDArray[np.float32], spans: Spans) -> dict[str, Any]:
    # A few columns at a time are copied and partly sorted, which is faster than np.quantile.
    count = sum(stop - start for start, stop in spans)
    width = max(1, _BLOCK_NUMBERS // count)
    found = {name: np.empty(matrix.shape[1]) for name in ("low", "high", *_QUANTILES)}
    for first in range(0, matrix.shape[1], width):
        columns = slice(first, first + width)
        block = np.hstack([np.ascontiguousarray(matrix[a:b, columns].T) for a, b in spans])
        found["low"][columns], found["high"][columns] = block.min(axis=1), block.max(axis=1)
        for name, fraction in _QUANTILES.items():
            part, place = math.modf(fraction * (count - 1))
            block.partition(int(place), axis=1)
            below = block[:, int(place)].astype(np.float64)
            above = block[:, int(place) + (part > 0) :].min(axis=1)
            found[name][columns] = below + part * (above - below)
    return found


def _floats(values: npt.NDArray[np.floating]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
