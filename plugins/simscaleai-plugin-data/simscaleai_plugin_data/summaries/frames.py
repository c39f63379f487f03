"""Frames of one camera in one episode, a few of them and made small.

T: timesteps, F: frames that are looked at, C: channels, W: columns of the packed numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from attrs import frozen

from simscaleai_core.data.location import Location
from simscaleai_core.data.source import Key
from simscaleai_plugin_data.summaries.reading import Array, Member

SIDE = 16
"""Side of a thumbnail [pixels]; smaller frames are not enlarged."""

_BLOCK_BYTES = 32 * 2**20
_EQUAL = 0.25  # grey levels of the mean of a thumbnail's cell
_MOVED = 0.05  # of the spread, root mean square over the columns that move
_RUN = 4  # frames
_BLACK = 10.0
_ONE_COLOUR = 2.0


@frozen(kw_only=True, eq=False)
class CameraSummary:
    """What one camera saw in one episode."""

    frozen: tuple[int, int, float] | None
    """First and last timestep of the longest standstill while the state moves, and how far it
    moves [fraction of the spread]."""
    black: tuple[int, ...]
    """Timesteps of the frames that are black or of one colour."""
    num_frames: int
    """Frames that were looked at."""
    mean: npt.NDArray[np.float16]
    """Mean of the small frames."""
    first: npt.NDArray[np.uint8]
    """The first small frame."""
    thumbs: npt.NDArray[np.uint8]
    """The small frames of the timesteps that samples are taken of `[r, SIDE, SIDE, C]`."""


def spaced(length: int, count: int) -> npt.NDArray[np.int64]:
    """Return at most `count` timesteps of an episode, evenly spaced, the first and last included.

    Example:
        >>> spaced(10, 4)
        array([0, 3, 6, 9])
    """
    return np.unique(np.linspace(0, length - 1, min(count, length)).round().astype(np.int64))


def look(
    member: Member,
    key: Key,
    timesteps: npt.NDArray[np.int64],
    samples: npt.NDArray[np.int64],
    state: Array,
) -> CameraSummary:
    """Look at some frames of an episode.

    Args:
        member: The episode.
        key: The camera.
        timesteps: Timesteps to look at `[F]`.
        samples: Positions in `timesteps` of those whose small frames are kept `[r]`.
        state: State at the timesteps, in units of the spread `[F, W]`.

    Returns:
        What was seen.
    """
    thumbs = np.concatenate(list(_thumbs(member, key, timesteps)))
    is_black = _is_black(thumbs)
    return CameraSummary(
        frozen=_standstill(thumbs, is_black, timesteps, state),
        black=tuple(timesteps[is_black].tolist()),
        num_frames=len(timesteps),
        mean=thumbs.mean(axis=0).astype(np.float16),
        first=thumbs[0].round().astype(np.uint8),
        thumbs=thumbs[samples].round().astype(np.uint8),
    )


def _thumbs(
    member: Member, key: Key, timesteps: npt.NDArray[np.int64]
) -> Iterator[npt.NDArray[np.float32]]:
    count = max(1, _BLOCK_BYTES // max(1, key.width))
    for start in range(0, len(timesteps), count):
        yield _small(take(member, key, timesteps[start : start + count]))


def take(member: Member, key: Key, timesteps: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Read some frames of an episode.

    Args:
        member: The episode.
        key: The camera.
        timesteps: Which, sorted `[T]`.

    Returns:
        The frames `[T, H, W, C]`.

    Raises:
        DataError: If they cannot be read, or have another shape than the key says.
    """
    source, episode = member.source, member.position
    if hasattr(source, "take"):
        frames: npt.NDArray[np.uint8] = source.take(episode, key.name, timesteps)
    else:
        breaks = np.flatnonzero(np.diff(timesteps) > 1) + 1
        spans = np.split(timesteps, breaks)
        parts = [source.read(episode, key.name, int(s[0]), int(s[-1]) + 1) for s in spans]
        frames = np.concatenate(parts)
    channels, height, width = key.shape
    wanted = (len(timesteps), height, width, channels)
    if frames.shape != wanted:
        location = Location(path=member.path, episode=member.episode.name, key=key.name)
        raise location.error(
            f"frames {list(wanted)}", str(list(frames.shape)), "Remove or repair the episode"
        )
    return frames


def _small(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    count, height, width, channels = frames.shape
    rows, columns = min(SIDE, height), min(SIDE, width)
    tall, wide = height // rows, width // columns
    cut = frames[:, : rows * tall, : columns * wide]
    cells = cut.reshape(count, rows, tall, columns, wide, channels)
    means: npt.NDArray[np.float32] = cells.mean(axis=(2, 4), dtype=np.float32)
    return means


def _is_black(thumbs: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    high, low = thumbs.max(axis=(1, 2)), thumbs.min(axis=(1, 2))  # each [F, C]
    is_black: npt.NDArray[np.bool_] = high.max(axis=1) < _BLACK
    is_black |= (high - low).max(axis=1) < _ONE_COLOUR
    return is_black


def _standstill(
    thumbs: npt.NDArray[np.float32],
    is_black: npt.NDArray[np.bool_],
    timesteps: npt.NDArray[np.int64],
    state: Array,
) -> tuple[int, int, float] | None:
    same = np.abs(np.diff(thumbs, axis=0)).max(axis=(1, 2, 3), initial=0.0) < _EQUAL
    same &= ~is_black[1:]
    best: tuple[int, int, float] | None = None
    for first, last in runs(same):
        moved = float(np.sqrt(np.square(np.ptp(state[first : last + 2], axis=0)).mean()))
        if last + 2 - first >= _RUN and moved >= _MOVED:
            start, stop = int(timesteps[first]), int(timesteps[last + 1])
            if best is None or stop - start > best[1] - best[0]:
                best = (start, stop, moved)
    return best


def runs(flags: npt.NDArray[np.bool_] | Sequence[bool]) -> list[tuple[int, int]]:
    """Return first and last position of each run of true values.

    Example:
        >>> runs([False, True, True, False, True])
        [(1, 2), (4, 4)]
    """
    edges = np.diff(np.concatenate(([0], np.asarray(flags, dtype=np.int8), [0])))
    starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1
    return [(int(a), int(b)) for a, b in zip(starts, stops, strict=True)]
