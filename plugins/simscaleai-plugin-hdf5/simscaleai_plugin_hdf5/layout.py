"""The layout of a trajectory file: names, what is an image, and the record of what a file holds.

The file, as the reader takes it and the writer makes it::

    episode_N/                       N counts up; leading zeros and gaps are fine
        observations/KEY   [T, D]            numbers, any real type, in the units of the data
                           [T, H, W, C]      uint8 images, 0 to 255
        actions            [T, A]
        rewards            [T]               optional when reading
        @language                            text, optional
    @env_name                                text, optional

Beside a text that our writer stores is its CRC-32, as @language_crc32 and @env_name_crc32.

T: timesteps of the episode, D: dimensions of a key, A: dimensions of an action.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from attrs import frozen

ACTIONS = "actions"
ENV = "env_name"
LANGUAGE = "language"
OBSERVATIONS = "observations"
REWARDS = "rewards"

_EPISODE = re.compile(r"episode_([0-9]{1,18})\Z")
_CHANNELS = (1, 2, 3, 4)


@frozen(kw_only=True)
class KeyLayout:
    """One observation key, or the actions: the same in every episode of a file."""

    name: str
    """Name of the key."""
    shape: tuple[int, ...]
    """Shape of one timestep as samples have it; images are (C, H, W)."""
    dtype: str
    """Number type in the file, such as ``"float64"``."""
    is_image: bool
    """Whether it holds uint8 images."""

    @property
    def width(self) -> int:
        """Return the numbers in one timestep."""
        return math.prod(self.shape)


@frozen(kw_only=True)
class EpisodeLayout:
    """One episode."""

    name: str
    """Name of its group, such as ``"episode_12"``."""
    length: int
    """Timesteps T."""
    language: str | None = None
    """Its instruction, if it has one and the texts were read."""
    success: bool | None = None
    """Whether the task was done, if that is known and the texts were read."""


@frozen(kw_only=True)
class FileStamp:
    """Size and time of a file: another file of the same name has another stamp."""

    size_bytes: int
    """Size of the file [bytes]."""
    modified_ns: int
    """Time of the last change [ns since 1970]."""


@frozen(kw_only=True)
class FileLayout:
    """The contents of a sound file."""

    path: Path
    """The file."""
    stamp: FileStamp
    """The state of the file when it was audited."""
    observations: tuple[KeyLayout, ...]
    """Observation keys, in the order that samples have them."""
    actions: KeyLayout
    """The actions."""
    episodes: tuple[EpisodeLayout, ...]
    """Episodes, in the order of their numbers."""
    env: str | None
    """Id of the environment that the file was recorded in, if known."""

    @property
    def packed(self) -> tuple[KeyLayout, ...]:
        """Return the low-dimensional keys, the actions last: the columns of the packed matrix."""
        return (*(key for key in self.observations if not key.is_image), self.actions)

    @property
    def images(self) -> tuple[KeyLayout, ...]:
        """Return the image keys."""
        return tuple(key for key in self.observations if key.is_image)


def episode_number(name: str) -> int | None:
    """Return N of ``episode_N``, or None if the name is not an episode's."""
    match = _EPISODE.match(name)
    return int(match[1]) if match else None


def looks_channels_first(shape: tuple[int, ...]) -> bool:
    """Return whether images `[T, ?, ?, ?]` have their channels before height and width."""
    return shape[1] in _CHANNELS and shape[3] not in _CHANNELS
