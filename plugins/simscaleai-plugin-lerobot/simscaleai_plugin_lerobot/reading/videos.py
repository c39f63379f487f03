"""Frames of videos by time: from the keyframe before on, and consecutive ones decoded once.

T: timesteps that are asked for, H and W: pixels, C: channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from simscaleai_core.data.location import Location
from simscaleai_core.data.source import Key
from simscaleai_plugin_lerobot.reading.held import Held

RESTORE = "Copy the video again, whole, or leave the key out with obs_keys"

_HELD_VIDEOS = 32
_HALF = 0.5
_ALIKE = 0.1
_WORTH_A_SEEK = 1
_WORTH_A_SEEK_BLINDLY = 12
_ALONE: dict[str, Any] = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}
"""A small picture is converted in less time than it takes to share it among threads."""
_PIXELS = {1: "gray", 3: "rgb24", 4: "rgba"}
_PLANES, _RED_GREEN_BLUE = "gbrp", (2, 0, 1)

Array = npt.NDArray[Any]


class Videos:
    """The videos of a data set; the last used ones stay open.

    Args:
        fps: Timesteps per second [Hz].
    """

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._held: Held[Path, Video] = Held(_HELD_VIDEOS)

    def take(self, times_s: npt.NDArray[np.float64], key: Key, location: Location) -> Array:
        """Return the frames at some times of a video.

        Args:
            times_s: When, sorted [s] `[T]`.
            key: What they are read as.
            location: The video, with episode and key, for messages.

        Returns:
            Images uint8 `[T, H, W, C]`; of depth the first plane as it is decoded, `[T, H, W]`.

        Raises:
            DataError: If the video is missing or damaged, or has no frame within half a timestep.
        """
        path = location.path
        if not path.is_file():
            raise location.error("a video", "no such file", RESTORE, fact="missing video")
        found = np.empty(0)
        try:
            video = self._held.get(path, lambda: Video(path, self._fps))
            for number, time_s in enumerate(times_s.tolist()):
                frame = video.frame_at(time_s)
                if abs(frame.time - time_s) > _HALF / self._fps:
                    raise location.error(
                        f"a frame at {time_s:.4f} s", f"the nearest one at {frame.time:.4f} s",
                        RESTORE, fact="a frame is missing in the video",
                    )  # fmt: skip
                planes = [_luma(frame)] if key.kind == "depth" else video.planes(frame, key)
                if not number:
                    shape = (len(times_s), len(planes), *planes[0].shape)
                    found = np.empty(shape, planes[0].dtype)  # as samples have it
                for place, plane in zip(found[number], planes, strict=True):
                    place[...] = plane
        except (av.FFmpegError, ValueError) as error:
            self._held.drop(path)
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise location.error("a sound video", reason, RESTORE) from error
        return found[:, 0] if key.kind == "depth" else found.transpose(0, 2, 3, 1)

    def close(self) -> None:
        """Close what is open; it is opened again when something is read."""
        self._held.clear()


class Video:
    """One open video, which is decoded forward as far as that is the shortest way.

    Args:
        path: The file.
        fps: Timesteps per second [Hz].

    Raises:
        ValueError: If there is no video in it.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self._container = av.open(str(path))
        if not self._container.streams.video:
            raise ValueError("no video in it")
        self._stream = self._container.streams.video[0]
        # one thread: workers share the work, and a forked process may let go of the decoder
        self._stream.codec_context.thread_count = 1
        self._tick_s = float(self._stream.time_base or 1 / fps)
        self._step = 1 / fps / self._tick_s  # [ticks]
        self._reformatter = VideoReformatter()  # one for all frames: making one takes the longest
        self._frames: Iterator[Any] = iter(())
        self._before: Any = None
        self._frame: Any = None

    def frame_at(self, time_s: float) -> Any:
        """Return the frame that is nearest to a time [s].

        Raises:
            ValueError: If no frame can be decoded.
        """
        wanted, alike = time_s / self._tick_s, _ALIKE * self._step
        if not self._is_ahead(wanted):
            self._seek(wanted)
        while self._frame is not None and self._frame.pts < wanted - alike:
            following = next(self._frames, None)
            if following is None:
                break
            self._before, self._frame = self._frame, following
        held = [frame for frame in (self._before, self._frame) if frame is not None]
        if not held:
            raise ValueError("no frame can be decoded")
        return min(held, key=lambda frame: abs(frame.pts - wanted))

    def planes(self, frame: Any, key: Key) -> list[Array]:
        """Return views of the channels of a frame as an image, uint8 `[H, W]` each."""
        channels = key.shape[0] if key.shape[0] in _PIXELS else 3
        kind = (frame.format.name, frame.width, frame.height, frame.colorspace, frame.color_range)
        if channels == 3 and _is_alike_in_planes(*kind):
            image = self._reformatter.reformat(frame, format=_PLANES, **_ALONE)
            return [_plane(image, np.dtype(np.uint8), 1, p)[..., 0] for p in _RED_GREEN_BLUE]
        image = self._reformatter.reformat(frame, format=_PIXELS[channels], **_ALONE)
        pixels = _plane(image, np.dtype(np.uint8), channels)
        return [pixels[..., channel] for channel in range(channels)]

    def _is_ahead(self, wanted: float) -> bool:
        """Return whether a time is reached best by going on from where the decoder is."""
        if self._frame is None:
            return False
        alike = _ALIKE * self._step
        first = self._frame if self._before is None else self._before
        if wanted < first.pts - alike:
            return False
        return wanted <= self._frame.pts + alike or not self._is_worth_a_seek(wanted)

    def _is_worth_a_seek(self, wanted: float) -> bool:
        """Return whether a keyframe lies far ahead, and not after the time."""
        entries = getattr(self._stream, "index_entries", None)  # PyAV from 17 on
        if not entries:
            return bool(wanted - self._frame.pts > _WORTH_A_SEEK_BLINDLY * self._step)
        place = entries.search_timestamp(round(wanted + _ALIKE * self._step))
        ahead = entries[place].timestamp - self._frame.pts if place >= 0 else 0
        return bool(ahead > _WORTH_A_SEEK * self._step)

    def _seek(self, wanted: float) -> None:
        """Decode the last keyframe that is not after a time."""
        start, back = self._stream.start_time or 0, 0.0
        latest = wanted + _ALIKE * self._step
        while True:
            target = max(round(latest - back), start)
            self._container.seek(target, stream=self._stream)
            decoded = self._container.decode(self._stream)
            self._frames = (frame for frame in decoded if frame.pts is not None)
            self._before, self._frame = None, next(self._frames, None)
            if target == start or (self._frame is not None and self._frame.pts <= latest):
                return
            # the file's index is by decoding time, which is before that of showing
            back = 2 * back + 16 * self._step


@lru_cache(maxsize=64)
def _is_alike_in_planes(name: str, width: int, height: int, *colours: int) -> bool:
    """Return whether conversion to planes, which is faster, gives the same as that to pixels.

    FFmpeg has other code for it; for some formats, and widths that are not a multiple of 16, it
    rounds otherwise (FFmpeg 8). Found out with noise.
    """
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    reformatter = VideoReformatter()
    frame = reformatter.reformat(av.VideoFrame.from_ndarray(noise, format="rgb24"), format=name)
    frame.colorspace, frame.color_range = colours
    planes = reformatter.reformat(frame, format=_PLANES, **_ALONE)
    image = reformatter.reformat(frame, format=_PIXELS[3], **_ALONE)
    pixels = _plane(image, np.dtype(np.uint8), 3)
    pairs = ((_plane(planes, np.dtype(np.uint8), 1, p), c) for c, p in enumerate(_RED_GREEN_BLUE))
    return all(np.array_equal(plane[..., 0], pixels[..., c]) for plane, c in pairs)


def _luma(frame: Any) -> Array:
    """Return a view of the first plane: a conversion to grey would stretch its range."""
    bits = frame.format.components[0].bits
    return _plane(frame, np.dtype("u1" if bits <= 8 else "<u2"), 1)[..., 0]


def _plane(frame: Any, dtype: np.dtype[Any], channels: int, number: int = 0) -> Array:
    plane = frame.planes[number]
    rows = np.frombuffer(plane, dtype).reshape(plane.height, -1)  # wider than the frame, if padded
    return rows[:, : frame.width * channels].reshape(plane.height, frame.width, channels)
