"""Statistics and fingerprint of the packed numbers of some episodes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from simscaleai_core.contracts import Statistics
from simscaleai_core.data.loading import Loaded
from simscaleai_core.data.source import Key

Spans = Sequence[tuple[int, int]]

_BLOCK_ROWS = 65536
_BLOCK_NUMBERS = 2**22


def key_statistics(loaded: Loaded, episodes: Sequence[int]) -> dict[str, Statistics]:
    """Measure every low-dimensional key and the actions, over all timesteps of some episodes.

    Args:
        loaded: What was read.
        episodes: Positions of the episodes.

    Returns:
        Statistics by key, in the units of the data.

    Source:
        Ours: mean, then mean squared distance from it, both summed in float64.
    """
    matrix = loaded.matrix.numpy()
    spans = _spans(loaded, episodes)
    count = sum(stop - start for start, stop in spans)
    mean = _total(matrix, spans) / count
    std = np.sqrt(_total(matrix, spans, around=mean) / count)
    low = np.min([matrix[a:b].min(axis=0) for a, b in spans], axis=0)
    high = np.max([matrix[a:b].max(axis=0) for a, b in spans], axis=0)
    statistics, column = {}, 0
    for key in loaded.packed:
        columns = slice(column, column + key.width)
        statistics[key.name] = Statistics(
            mean=_floats(mean[columns]),
            std=_floats(std[columns]),
            low=_floats(low[columns]),
            high=_floats(high[columns]),
        )
        column = columns.stop
    return statistics


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


def _floats(values: npt.NDArray[np.floating]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
