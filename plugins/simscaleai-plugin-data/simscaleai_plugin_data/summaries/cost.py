"""What it costs to read one frame, as training does that draws samples at random.

T: timesteps that are read.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import numpy.typing as npt
from attrs import frozen

from simscaleai_core.data.source import EpisodeSource, Key
from simscaleai_plugin_data.summaries.frames import spaced, take
from simscaleai_plugin_data.summaries.reading import Member

_TOGETHER, _LEAST_TOGETHER = 32, 8  # timesteps
_ALONE = 4
_BLOCK_BYTES = 64 * 2**20


@frozen(kw_only=True)
class ReadingCost:
    """Processor time for one frame of a camera."""

    alone_s: float
    """If it is read by itself [s]."""
    together_s: float
    """If it is read with those that follow [s]."""


def measure_cost(source: EpisodeSource, key: Key) -> ReadingCost | None:
    """Read a few frames of the longest episode alone, and its first ones together.

    Args:
        source: The data.
        key: The camera.

    Returns:
        What they cost; None if no episode is long enough to tell.

    Raises:
        DataError: If they cannot be read.
    """
    lengths = [episode.length for episode in source.episodes]
    position = int(np.argmax(lengths))
    member = Member(source=source, position=position)
    if lengths[position] < _TOGETHER:
        return None
    first, *others = spaced(lengths[position], _ALONE).reshape(-1, 1)
    for timesteps in (*others, first):  # what is opened or checked once is not counted
        take(member, key, timesteps)
    alone_s = [_time(member, key, timesteps) for timesteps in others]
    count = max(_LEAST_TOGETHER, min(_TOGETHER, _BLOCK_BYTES // key.width))
    together_s = _time(member, key, np.arange(count)) / count
    return ReadingCost(alone_s=statistics.median(alone_s), together_s=together_s)


def _time(member: Member, key: Key, timesteps: npt.NDArray[np.int64]) -> float:
    begin = time.process_time()
    take(member, key, timesteps)
    return time.process_time() - begin
