"""The record of what a file or folder holds, whatever its layout, and where each array lies.

T: timesteps of an episode.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from attrs import frozen

from simscaleai_core.data.frames import FloatRange, kind_of
from simscaleai_core.data.source import Episode, Key, KeyKind

ENV = "env_name"
LANGUAGE = "language"
OBSERVATIONS = "observations"
REWARDS = "rewards"

Encoding = Literal["numbers", "frames", "encoded", "depth"]
"""How an array is stored: as it is read, as frames that may need a change, as JPEG or PNG bytes,
or as distances, perhaps with a channel."""

_MAX_DIGITS = 18


@frozen(kw_only=True)
class StoredKey:
    """An observation key, the actions or the rewards, as every episode has them."""

    key: Key
    """What samples have of it."""
    path: tuple[str, ...]
    """Names that lead to it from the group of the episode."""
    step: tuple[int, ...]
    """Shape of one timestep as stored; empty for one number, and for frames of varying size."""
    dtype: str
    """Type of the stored values, as NumPy writes it."""
    encoding: Encoding = "numbers"
    """How it is stored."""
    scale: FloatRange = "byte"
    """The range of floating-point frames."""


@frozen(kw_only=True)
class StoredEpisode:
    """One episode, and where it lies."""

    episode: Episode
    """What is known of it."""
    file: int
    """Position of its file."""
    group: tuple[str, ...]
    """Names that lead to its group from the root of the file."""
    first: int = 0
    """Its first timestep in the arrays of that group."""
    has_rewards: bool = False
    """Whether rewards lie beside its actions."""
    times: str = ""
    """Name of the array beside them with the seconds of its timesteps, or nothing."""
    changes: tuple[tuple[int, str], ...] = ()
    """First timestep of each stretch, and what was told there; nothing if that is not stored."""


@frozen(kw_only=True)
class FileStamp:
    """Size and time of a file: another file of the same name has another stamp."""

    size_bytes: int
    """Size of the file [bytes]."""
    modified_ns: int
    """Time of the last change [ns since 1970]."""


@frozen(kw_only=True)
class StoredFile:
    """One file."""

    path: Path
    """The file."""
    stamp: FileStamp
    """Its state when it was looked at."""


@frozen(kw_only=True)
class FileLayout:
    """The contents of a sound file, or of a folder of such files."""

    name: str
    """Name of the layout, such as ``"robomimic"``."""
    path: Path
    """The file or folder."""
    files: tuple[StoredFile, ...]
    """The files, in natural order of their names."""
    observations: tuple[StoredKey, ...]
    """Observation keys, sorted by name."""
    actions: StoredKey
    """The actions."""
    rewards: tuple[str, ...]
    """Names that lead to the rewards from the group of an episode that has them."""
    episodes: tuple[StoredEpisode, ...]
    """Episodes, in natural order of their names."""
    env: str | None = None
    """Id of the environment that the data was recorded in, if known."""
    fps: float | None = None
    """Timesteps per second, if known."""


def kind_of_array(shape: Sequence[int], dtype: npt.DTypeLike) -> KeyKind | None:
    """Return what an array `[T, ...]` holds, or None if it cannot be told.

    Args:
        shape: Shape with time, as stored.
        dtype: Number type.

    Returns:
        What `kind_of` says; and ``"image"`` for uint8 frames `[H, W, C]` of any number of channels
        below height and width, such as stacked frames.
    """
    kind, step = kind_of(shape, dtype), shape[1:]
    if kind is None and np.dtype(dtype) == np.uint8 and len(step) == 3 and step[2] < min(step[:2]):
        return "image"
    return kind


def number_in(name: str, prefix: str) -> int | None:
    """Return N of a name such as ``episode_N``, or None if the name is another one.

    Args:
        name: The name.
        prefix: What stands before the number.
    """
    digits = name.removeprefix(prefix)
    is_number = name.startswith(prefix) and len(digits) <= _MAX_DIGITS
    return int(digits) if is_number and digits.isascii() and digits.isdigit() else None
