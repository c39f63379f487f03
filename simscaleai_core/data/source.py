"""What a reader of demonstrations gives: episodes, their keys, and the numbers in them.

A plugin writes an `EpisodeSource`; windows, padding, splits, statistics and memory are the work of
`simscaleai_core.data.windowed.WindowedDataset`, so that all readers behave alike.

T: timesteps that are read, D: dimensions of a key, A: dimensions of an action.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy.typing as npt
from attrs import frozen

ACTIONS = "actions"
"""Name under which the actions are read, whatever the data calls them."""

_DIGITS = re.compile(r"([0-9]+)")
_MAX_DIGITS = 4000  # Python reads no number of more than 4300

KeyKind = Literal["low-dimensional", "image", "depth"]
"""Numbers; colour or grey frames; distances, which are read only if their key is named."""


@frozen(kw_only=True)
class Key:
    """One observation key, or the actions: the same in every episode."""

    name: str
    """Name of the key; parts of a nested name are joined by ``/``."""
    shape: tuple[int, ...]
    """Shape of one timestep; images and depth are (C, H, W). Matrices become one row in samples."""
    kind: KeyKind = "low-dimensional"
    """What it holds."""
    dtype: str = "float32"
    """Number type in the data, for listings."""
    dimensions: tuple[str, ...] = ()
    """Names of its dimensions, if the data has them."""

    @property
    def width(self) -> int:
        """Return the numbers in one timestep."""
        return math.prod(self.shape)


@frozen(kw_only=True)
class Episode:
    """One recorded trajectory."""

    name: str
    """Its name in the data, such as ``"demo_12"``."""
    length: int
    """Timesteps: as many as it has actions."""
    instructions: tuple[str, ...] = ()
    """What it was told, in words; several are other words for the same, or those of its parts."""
    success: bool | None = None
    """Whether the task was done, if the data says so."""
    filter_keys: frozenset[str] = frozenset()
    """Named parts of the data that it belongs to, such as ``"train"``."""


class EpisodeSource(Protocol):
    """Episodes as they are stored, whatever the layout. What a reader plugin writes.

    It is sent to loader workers: it must be possible to pickle, and opens its files where it reads.
    Optional attributes: ``fps`` (timesteps per second), ``env`` (id of the environment that the
    data was recorded in), ``files`` (paths of all that is read, by which an index is kept).
    Optional methods: ``timestamps(episode)``, seconds `[T]` as recorded; ``rewards(episode)``,
    `[T]`; ``timestep_instructions(episode)``, the instruction of each timestep `[T]`, where an
    episode has several; ``stored_statistics()``, `Statistics` by key that lie beside the data;
    ``take(episode, key, timesteps)``, as `read` but for sorted timesteps int64 `[T]`, where reading
    them together is faster than span by span, as of a video or of chunks.
    """

    @property
    def path(self) -> Path:
        """What was opened, for messages."""
        ...

    @property
    def observations(self) -> Sequence[Key]:
        """The observation keys, in the order of the data."""
        ...

    @property
    def actions(self) -> Key:
        """The actions; its name is ``"actions"``."""
        ...

    @property
    def episodes(self) -> Sequence[Episode]:
        """The episodes, in natural order: ``demo_10`` after ``demo_2``."""
        ...

    def read(self, episode: int, key: str, start: int, stop: int) -> npt.NDArray[Any]:
        """Return the timesteps from `start` to before `stop` of a key.

        Args:
            episode: Position in `episodes`.
            key: Name of an observation key, or ``"actions"``.
            start: First timestep.
            stop: The timestep after the last.

        Returns:
            Low-dimensional: real numbers `[T, ...]` in the units of the data. Image: uint8
            `[T, H, W, C]`, RGB or grey. Depth: real numbers `[T, H, W]` in the units of the data.

        Raises:
            DataError: If it cannot be read.
        """


def natural_order(name: str) -> tuple[list[int | str], str]:
    """Return what names are sorted by, so that ``episode_10`` comes after ``episode_2``."""
    parts = _DIGITS.split(name)
    key = [int(p[:_MAX_DIGITS]) if number % 2 else p for number, p in enumerate(parts)]
    return key, name
