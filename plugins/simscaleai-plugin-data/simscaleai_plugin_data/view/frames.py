"""Small pictures of frames, as they stand in a page or a figure.

T: timesteps, H and W: pixels, C: channels (1 grey, 3 RGB, 4 RGBA).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from attrs import field, frozen
from PIL import Image

from simscaleai_core.data.source import EpisodeSource, Key
from simscaleai_plugin_data.view.drawing import number_text

MAX_SIDE = 144
"""Longest side of a picture in the page [pixels]; smaller frames keep their size."""

_QUALITY = 80


@frozen(kw_only=True)
class Strip:
    """Frames of one camera over an episode, at equal distances in time."""

    key: str
    """Name of the key."""
    timesteps: tuple[int, ...]
    """Where each frame is from: the middle of its part of the episode."""
    images: tuple[Image.Image, ...] = field(repr=False)
    """The frames, made small; grey or RGB."""
    caption: str
    """What the frames are, in words."""

    @property
    def uris(self) -> list[str]:
        """Return each frame as a ``data:`` URI of a JPEG file."""
        files = [base64.b64encode(jpeg_of(image)).decode() for image in self.images]
        return [f"data:image/jpeg;base64,{file}" for file in files]


def read_strip(source: EpisodeSource, episode: int, key: Key, num_frames: int) -> Strip:
    """Read some frames of an episode.

    Args:
        source: The demonstrations.
        episode: Position of the episode.
        key: A key of images or depth.
        num_frames: Frames to read at most.

    Returns:
        The frames. Depth is drawn from black for the nearest of them to white for the farthest.
    """
    length = source.episodes[episode].length
    number = min(num_frames, length)
    steps = tuple(int((place + 0.5) * length / number) for place in range(number))
    read = [source.read(episode, key.name, step, step + 1)[0] for step in steps]
    size = f"{key.shape[2]} x {key.shape[1]}"
    if key.kind == "depth":
        pictures, distances = _grey(read)
        return Strip(
            key=key.name,
            timesteps=steps,
            images=tuple(map(_small, pictures)),
            caption=f"depth {size}, {distances}",
        )
    images = tuple(_small(picture(frame)) for frame in read)
    return Strip(key=key.name, timesteps=steps, images=images, caption=size)


def picture(frame: npt.NDArray[np.uint8]) -> Image.Image:
    """Return a frame `[H, W, C]` as a picture, grey or RGB."""
    if frame.shape[-1] == 1:
        return Image.fromarray(frame[..., 0])
    return Image.fromarray(np.ascontiguousarray(frame[..., :3]))


def jpeg_of(image: Image.Image) -> bytes:
    """Return a picture as a JPEG file."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def _grey(frames: Sequence[npt.NDArray[Any]]) -> tuple[list[Image.Image], str]:
    stack = np.asarray(frames, dtype=np.float64)
    finite = stack[np.isfinite(stack)]
    if not finite.size:
        return [Image.new("L", (s.shape[1], s.shape[0])) for s in stack], "nothing finite"
    low, high = float(finite.min()), float(finite.max())
    shown = (np.nan_to_num(stack, nan=low, posinf=high, neginf=low) - low) / (high - low or 1.0)
    pictures = [Image.fromarray((255 * each).astype(np.uint8)) for each in shown]
    return pictures, f"{number_text(low)} to {number_text(high)}"


def _small(image: Image.Image) -> Image.Image:
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    return image
