"""Statistics of episodes as LeRobot keeps them, and of all episodes from those of each.

N: timesteps, C: channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Table = dict[str, npt.NDArray[Any]]

_QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
_FEWEST_FRAMES = 100
_LARGE_PIXELS = 300
_KEPT_PIXELS = 150


def statistics_of(values: npt.NDArray[Any]) -> Table:
    """Return the statistics of an episode's numbers.

    Args:
        values: Numbers `[N, ...]`.

    Returns:
        Smallest, largest, mean, standard deviation and quantiles of each dimension, of a matrix
        those of each of its columns; ``count``, `[1]`, is N.

    Source:
        lerobot 0.4.4, `compute_episode_stats`; the quantiles are exact here.
    """
    rows = values.reshape(-1, values.shape[-1]).astype(np.float64)
    table = {
        "min": rows.min(axis=0),
        "max": rows.max(axis=0),
        "mean": rows.mean(axis=0),
        "std": rows.std(axis=0),
        "count": np.array([len(values)]),
    }
    quantiles = np.quantile(rows, list(_QUANTILES.values()), axis=0)
    return {**table, **dict(zip(_QUANTILES, quantiles, strict=True))}


def sampled_timesteps(length: int) -> npt.NDArray[np.int64]:
    """Return the timesteps whose frames statistics are made of.

    Args:
        length: Timesteps of the episode.

    Returns:
        Evenly spaced timesteps, the first and the last among them.

    Source:
        lerobot 0.4.4, `sample_indices`: length ** 0.75, at least 100 and at most 10,000.
    """
    count = max(min(_FEWEST_FRAMES, length), min(int(length**0.75), 10_000))
    return np.unique(np.round(np.linspace(0, length - 1, count)).astype(np.int64))


class FrameStatistics:
    """Counts of the values of pixels, from which all statistics of frames follow.

    Args:
        channels: Channels of the frames; alpha is left out, grey counts as red, green and blue.
    """

    def __init__(self, channels: int) -> None:
        self._channels = min(channels, 3)
        self._counts = np.zeros((self._channels, 256), dtype=np.int64)
        self._num_frames = 0

    def add(self, frames: npt.NDArray[np.uint8]) -> None:
        """Count the pixels of some frames `[N, H, W, C]`; of large ones every few pixels only."""
        side = max(frames.shape[1:3])
        step = side // _KEPT_PIXELS if side >= _LARGE_PIXELS else 1
        for channel in range(self._channels):
            pixels = frames[:, ::step, ::step, channel].ravel()
            self._counts[channel] += np.bincount(pixels, minlength=256)
        self._num_frames += len(frames)

    def table(self) -> Table:
        """Return the statistics in [0, 1], each `[3, 1, 1]`; ``count`` is that of frames."""
        levels, total = np.arange(256) / 255, self._counts.sum(axis=1)
        mean = self._counts @ levels / total
        variance = self._counts @ levels**2 / total - mean**2
        present, cumulated = self._counts > 0, self._counts.cumsum(axis=1)
        table = {
            "min": levels[present.argmax(axis=1)],
            "max": levels[255 - present[:, ::-1].argmax(axis=1)],
            "mean": mean,
            "std": np.sqrt(np.maximum(variance, 0)),
        }
        for name, fraction in _QUANTILES.items():
            table[name] = levels[(cumulated >= fraction * total[:, None]).argmax(axis=1)]
        shaped = {name: np.broadcast_to(v, 3).reshape(3, 1, 1) for name, v in table.items()}
        return {**shaped, "count": np.array([self._num_frames])}


def combined(tables: Iterable[Table]) -> Table:
    """Return the statistics of several episodes together.

    Args:
        tables: The statistics of each.

    Returns:
        Exact ones, but for the quantiles: the mean of those of the episodes, by their counts.

    Source:
        lerobot 0.4.4, `aggregate_feature_stats`.
    """
    parts = list(tables)
    stacked = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
    counts = stacked["count"].ravel()
    mean = np.average(stacked["mean"], axis=0, weights=counts)
    variance = stacked["std"] ** 2 + (stacked["mean"] - mean) ** 2
    found = {
        "min": stacked["min"].min(axis=0),
        "max": stacked["max"].max(axis=0),
        "mean": mean,
        "std": np.sqrt(np.average(variance, axis=0, weights=counts)),
        "count": np.array([counts.sum()]),
    }
    quantiles = {q: np.average(stacked[q], axis=0, weights=counts) for q in _QUANTILES}
    return {**found, **quantiles}


def as_lists(table: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
    """Return statistics as nested lists."""
    return {name: values.tolist() for name, values in table.items()}
