"""What a set of demonstrations holds, read once: lengths, ranges, instructions.

T: timesteps, D: dimensions of a key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import numpy as np
import numpy.typing as npt
from attrs import frozen

from simscaleai_core.data.source import EpisodeSource, Key
from simscaleai_core.errors import DataError

Numbers = npt.NDArray[np.float64]

NUM_BINS = 40
"""Bars of the histogram of one dimension."""

_MAX_SAMPLED = 50_000  # timesteps that a histogram is made of; lowest and highest are of all
_MAX_TEXT = 300


@frozen(kw_only=True)
class Dimension:
    """The numbers of one dimension over all timesteps."""

    name: str
    """Its name in the data, or its position."""
    low: float
    """Lowest finite value, in the units of the data; NaN if there is none."""
    mean: float
    """Mean of the finite values, in the units of the data."""
    high: float
    """Highest finite value, in the units of the data."""
    counts: tuple[int, ...]
    """Timesteps in each of `NUM_BINS` equal parts of the range, of a sample of them."""
    num_not_finite: int
    """Timesteps at which it is NaN or infinite."""


@frozen(kw_only=True)
class Overview:
    """What a source holds."""

    name: str
    """Name of the file or folder."""
    path: str
    """Its whole path."""
    env: str
    """Environment that it was recorded in, or nothing."""
    fps: float | None
    """Timesteps per second, if known."""
    keys: tuple[Key, ...]
    """The observation keys, then the actions."""
    lengths: tuple[int, ...]
    """Timesteps of each episode."""
    num_judged: int
    """Episodes of which the data says whether they succeeded."""
    num_succeeded: int
    """Those that did."""
    filter_keys: Mapping[str, int]
    """Episodes of each filter key."""
    instructions: tuple[tuple[str, int], ...]
    """Each instruction and its episodes, the most frequent first."""
    num_without_instruction: int
    """Episodes without one."""
    dimensions: Mapping[str, tuple[Dimension, ...]]
    """What was found in each low-dimensional key."""

    @property
    def num_timesteps(self) -> int:
        """Return the timesteps of all episodes."""
        return sum(self.lengths)


def read_overview(source: EpisodeSource, advance: Callable[[], object] = lambda: None) -> Overview:
    """Read what a source holds; of images and depth, only what they are.

    Args:
        source: The demonstrations.
        advance: Called after every episode.

    Returns:
        What is in it.
    """
    episodes = source.episodes
    texts = Counter(shortened(text) for e in episodes for text in e.instructions)
    return Overview(
        name=source.path.resolve().name,
        path=str(source.path),
        env=str(getattr(source, "env", None) or ""),
        fps=getattr(source, "fps", None) or None,
        keys=(*source.observations, source.actions),
        lengths=tuple(e.length for e in episodes),
        num_judged=sum(e.success is not None for e in episodes),
        num_succeeded=sum(e.success is True for e in episodes),
        filter_keys=Counter(key for e in episodes for key in sorted(e.filter_keys)),
        instructions=tuple(texts.most_common()),
        num_without_instruction=sum(not e.instructions for e in episodes),
        dimensions=_dimensions(source, advance),
    )


def shortened(text: str) -> str:
    """Return a text on one line, cut where it is too long to be read at a glance."""
    line = " ".join(text.split())
    return line if len(line) <= _MAX_TEXT else f"{line[:_MAX_TEXT]}..."


def dimension_names(key: Key) -> Sequence[str]:
    """Return a name for each number of a timestep of a key: the data's own, or its position.

    The only number of a key has no name: the key's says it.
    """
    if len(key.dimensions) == key.width:
        return key.dimensions
    if len(key.shape) > 1:
        return [",".join(map(str, place)) for place in np.ndindex(*key.shape)]
    return [str(number) for number in range(key.width)] if key.width > 1 else [""]


def rows_of(values: npt.NDArray[np.generic], key: Key) -> Numbers:
    """Return the numbers of a key `[T, ...]` as rows `[T, D]`."""
    return np.asarray(values, dtype=np.float64).reshape(len(values), key.width)


def _dimensions(
    source: EpisodeSource, advance: Callable[[], object]
) -> dict[str, tuple[Dimension, ...]]:
    keys = [k for k in (*source.observations, source.actions) if k.kind == "low-dimensional"]
    stride = max(1, -(-sum(e.length for e in source.episodes) // _MAX_SAMPLED))
    summaries = {key.name: _Summary(key, stride) for key in keys}
    for number, episode in enumerate(source.episodes):
        for key in keys:
            with suppress(DataError):  # a finding of the check; the rest is shown all the same
                values = source.read(number, key.name, 0, episode.length)
                summaries[key.name].add(rows_of(values, key))
        advance()
    return {name: summary.dimensions() for name, summary in summaries.items()}


class _Summary:
    """What there is to say of one key, gathered episode by episode.

    Args:
        key: The key.
        stride: Of how many timesteps one is kept for the histograms.
    """

    def __init__(self, key: Key, stride: int) -> None:
        self._key, self._stride = key, stride
        self._low = np.full(key.width, np.inf)
        self._high = np.full(key.width, -np.inf)
        self._total = np.zeros(key.width)
        self._num_finite = np.zeros(key.width, dtype=np.int64)
        self._num_timesteps = 0
        self._sample: list[Numbers] = []

    def add(self, rows: Numbers) -> None:
        """Take the numbers of one episode `[T, D]` into account."""
        finite = np.isfinite(rows)
        self._low = np.minimum(self._low, rows.min(0, where=finite, initial=np.inf))
        self._high = np.maximum(self._high, rows.max(0, where=finite, initial=-np.inf))
        with np.errstate(over="ignore", invalid="ignore"):
            self._total += rows.sum(0, where=finite)
        self._num_finite += finite.sum(0)
        self._sample.append(rows[-self._num_timesteps % self._stride :: self._stride])
        self._num_timesteps += len(rows)

    def dimensions(self) -> tuple[Dimension, ...]:
        """Return what there is to say of each dimension."""
        sample = np.concatenate([np.empty((0, self._key.width)), *self._sample])
        return tuple(
            self._dimension(place, name, sample[:, place])
            for place, name in enumerate(dimension_names(self._key))
        )

    def _dimension(self, place: int, name: str, sample: Numbers) -> Dimension:
        num_finite = int(self._num_finite[place])
        low, high = float(self._low[place]), float(self._high[place])
        counts = [0] * NUM_BINS
        if num_finite and low < high:
            kept = sample[np.isfinite(sample)] / 2  # halves: their distances never overflow
            parts = ((kept - low / 2) / (high / 2 - low / 2) * NUM_BINS).astype(int)
            counts = np.bincount(parts.clip(0, NUM_BINS - 1), minlength=NUM_BINS).tolist()
        return Dimension(
            name=name,
            low=low if num_finite else np.nan,
            mean=float(self._total[place] / num_finite) if num_finite else np.nan,
            high=high if num_finite else np.nan,
            counts=tuple(counts),
            num_not_finite=self._num_timesteps - num_finite,
        )
