"""What is usual in the data, from a sample of its episodes: the yardstick of the other checks.

T: timesteps, W: columns of the packed numbers, E: episodes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from attrs import frozen

from simscaleai_core.data.source import Key
from simscaleai_core.errors import DataError
from simscaleai_plugin_data.summaries.effects import Effects, measure_effects
from simscaleai_plugin_data.summaries.reading import (
    Array,
    Member,
    columns_of,
    filled,
    read_matrix,
)

_EPISODES = 64
_TIMESTEPS = 4096
_FLOOR = 0.01  # of the largest spread of the key: below it is noise
_NORMAL = 3.45  # from the quartiles' distance to that of the percentiles 1 and 99, if normal


@frozen(kw_only=True, eq=False)
class Scale:
    """Middle and spread of every column, and how the actions move the state."""

    centre: Array
    """Median of the episodes' medians `[W]`."""
    spread: Array
    """From the 1st to the 99th percentile `[W]`; a few episodes in other units change it little."""
    effects: Effects
    """Which state each action moves, and how much later."""


def measure_scale(members: Sequence[Member], keys: Sequence[Key]) -> Scale | None:
    """Read at most 64 episodes, evenly spaced, and measure them.

    Args:
        members: All episodes.
        keys: The low-dimensional observation keys, and the actions last.

    Returns:
        The scale, or None if no episode can be read.

    Source:
        Ours. Within an episode the distance of the percentiles 1 and 99, the median of all
        episodes; between episodes 3.45 times the quartiles' distance of their medians; the root of
        the sum of squares. What moves has at least 1% of the largest spread of its key.
    """
    matrices = [m for member in _sample(members) if (m := _read(member, keys)) is not None]
    if not matrices:
        return None
    low, middle, high = np.array(
        [np.percentile(m, (1, 50, 99), axis=0) for m in matrices]
    ).transpose(1, 0, 2)  # each [E, W]
    within = np.median(high - low, axis=0)
    quartiles = np.percentile(middle, (25, 75), axis=0)
    spread = np.hypot(within, _NORMAL * (quartiles[1] - quartiles[0]))
    for span in columns_of(keys).values():
        moves = spread[span] > 0
        spread[span] = np.where(moves, np.maximum(spread[span], _FLOOR * spread[span].max()), 0.0)
    return Scale(
        centre=np.median(middle, axis=0),
        spread=spread,
        effects=measure_effects(matrices, keys[-1].width),
    )


def _sample(members: Sequence[Member]) -> list[Member]:
    if len(members) <= _EPISODES:
        return list(members)
    return [members[i] for i in np.linspace(0, len(members) - 1, _EPISODES).round().astype(int)]


def _read(member: Member, keys: Sequence[Key]) -> Array | None:
    try:
        matrix = read_matrix(member, keys, _TIMESTEPS)
    except DataError:  # reported when all episodes are read
        return None
    return filled(matrix) if len(matrix) else None
