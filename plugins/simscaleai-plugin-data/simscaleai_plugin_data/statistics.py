"""Mean, deviation, range and quantiles of every dimension, over all timesteps.

N: timesteps of the data, D: dimensions of a key.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from attrs import frozen

from simscaleai_core.data.location import Location, finite_rows
from simscaleai_core.data.source import EpisodeSource, Key
from simscaleai_plugin_data.summaries.reading import Member, numeric_keys, read_matrix
from simscaleai_plugin_data.summaries.summary import Totals

EXACT_TIMESTEPS = 2**20
"""Up to so many timesteps quantiles are exact; of longer data every nth is taken."""


@frozen(kw_only=True)
class KeyStatistics:
    """Statistics of one key, a number for each dimension [units of the key]."""

    mean: tuple[float, ...]
    """Mean."""
    std: tuple[float, ...]
    """Standard deviation of the population."""
    low: tuple[float, ...]
    """Smallest value."""
    high: tuple[float, ...]
    """Largest value."""
    q01: tuple[float, ...]
    """Quantile 1%."""
    q99: tuple[float, ...]
    """Quantile 99%."""


def statistics_of(
    source: EpisodeSource, advance: Callable[[], object] = lambda: None
) -> dict[str, KeyStatistics]:
    """Read every low-dimensional number once, key after key.

    Args:
        source: The demonstrations.
        advance: Called after each episode of each key.

    Returns:
        The statistics of the observation keys in their order, and of the actions.

    Raises:
        DataError: If a number cannot be read or is not finite.
    """
    return {key.name: _of_key(source, key, advance) for key in numeric_keys(source)}


def _of_key(source: EpisodeSource, key: Key, advance: Callable[[], object]) -> KeyStatistics:
    total = sum(episode.length for episode in source.episodes)
    every, done = math.ceil(total / EXACT_TIMESTEPS), 0
    totals, kept = Totals(), []
    for position, episode in enumerate(source.episodes):
        values = read_matrix(Member(source=source, position=position), [key])
        location = Location(path=Path(source.path), episode=episode.name, key=key.name)
        rows = finite_rows(values, key.width, location)
        totals.add(rows.astype(np.float64))
        kept.append(rows[-done % every :: every])
        done += episode.length
        advance()
    low, high = np.quantile(np.concatenate(kept), (0.01, 0.99), axis=0)
    return KeyStatistics(
        mean=_floats(totals.mean), std=_floats(totals.std), low=_floats(totals.low),
        high=_floats(totals.high), q01=_floats(low), q99=_floats(high),
    )  # fmt: skip


def _floats(values: npt.NDArray[np.floating]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
