"""Frames as recorders store them, made uint8 `[T, H, W, C]`: what every reader needs.

T: timesteps, H and W: pixels, C: channels (1 grey, 3 RGB, 4 RGBA).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from simscaleai_core.data.source import KeyKind

if TYPE_CHECKING:
    from PIL import Image

Frames = npt.NDArray[np.uint8]
"""Frames uint8 `[T, H, W, C]`."""
FloatRange = Literal["unit", "byte"]
"""Whether floating-point frames are in [0, 1] or in [0, 255]."""

_CHANNELS = (1, 3, 4)
_MIN_SIDE = 8
"""A step `[H, W]` with both sides from this on is a frame; a smaller one is a matrix [pixels]."""


def kind_of(shape: Sequence[int], dtype: npt.DTypeLike) -> KeyKind | None:
    """Return what an array `[T, ...]` holds, from its shape and type; None if it cannot be told.

    Args:
        shape: Shape with time, as stored.
        dtype: Number type.

    Returns:
        ``"image"`` for steps of 1, 3 or 4 channels first or last, and for uint8 steps `[H, W]`;
        ``"depth"`` for other steps `[H, W]`, also with one channel of a type of more than a byte;
        ``"low-dimensional"`` for numbers, rows, and matrices or stacks of them with a side of
        less than 8 that are not of uint8.

    Source:
        Ours.
    """
    step, kind = tuple(shape[1:]), np.dtype(dtype)
    if len(step) == 2 and min(step) >= _MIN_SIDE:
        return "image" if kind == np.uint8 else "depth"
    if len(step) <= 2:
        return "low-dimensional"
    if len(step) == 3 and (step[0] in _CHANNELS or step[2] in _CHANNELS):
        if kind != np.uint8 and min(frame_shape(shape)[1:]) < _MIN_SIDE:
            return "low-dimensional"  # such as the poses of several bodies, [N, 4, 4]
        is_single = frame_shape(shape)[0] == 1
        return "depth" if is_single and kind.itemsize > 1 else "image"
    return None


def frame_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """Return (C, H, W) of frames stored `[T, H, W]`, `[T, H, W, C]` or `[T, C, H, W]`."""
    step = tuple(shape[1:])
    if len(step) == 2:
        return (1, step[0], step[1])
    if is_channels_first(shape):
        return (step[0], step[1], step[2])
    return (step[2], step[0], step[1])


def is_channels_first(shape: Sequence[int]) -> bool:
    """Return whether frames `[T, ?, ?, ?]` have their channels before height and width."""
    return len(shape) == 4 and shape[1] in _CHANNELS and shape[3] not in _CHANNELS


def float_range(values: npt.NDArray[Any]) -> FloatRange:
    """Return in which range floating-point frames are, from some of them."""
    return "byte" if values.size and float(np.nanmax(values)) > 1.0 else "unit"


def as_frames(values: npt.NDArray[Any], scale: FloatRange = "byte") -> Frames:
    """Return frames as uint8, channels last.

    Args:
        values: Frames `[T, H, W]`, `[T, H, W, C]` or `[T, C, H, W]`; uint8 or floating-point.
        scale: The range of floating-point ones.

    Returns:
        The frames `[T, H, W, C]`; floats are rounded to the nearest whole number.

    Raises:
        ValueError: If a value is not finite or lies outside its range.

    Example:
        >>> as_frames(np.full((1, 3, 8, 8), 0.5), "unit")[0, 0, 0]
        array([128, 128, 128], dtype=uint8)
    """
    if values.dtype != np.uint8:
        values = _rounded(values, 255.0 if scale == "unit" else 1.0)
    if values.ndim == 3:
        return values[..., None]
    if is_channels_first(values.shape):
        return np.ascontiguousarray(values.transpose(0, 2, 3, 1))
    return np.asarray(values, dtype=np.uint8)


def _rounded(values: npt.NDArray[Any], factor: float) -> Frames:
    scaled = np.rint(values.astype(np.float32) * factor)
    if not (
        np.isfinite(scaled).all() and scaled.min(initial=0) >= 0 and scaled.max(initial=0) <= 255
    ):
        raise ValueError(f"values from {values.min()} to {values.max()}, for 0 to {255 / factor:g}")
    return np.asarray(scaled, dtype=np.uint8)


def decoded(blobs: Sequence[bytes | npt.NDArray[np.uint8]]) -> Frames:
    """Decode frames stored as JPEG or PNG bytes.

    Args:
        blobs: One for each frame; zeros after its end do no harm.

    Returns:
        The frames `[T, H, W, C]`, uint8; colours as the file says them, so RGB.

    Raises:
        ValueError: If one is no JPEG or PNG of 8 bits per channel, or of another size than the
            first.
    """
    from PIL import Image

    frames: list[npt.NDArray[np.uint8]] = []
    for number, blob in enumerate(blobs):
        raw = blob if isinstance(blob, bytes) else blob.tobytes()
        try:
            with Image.open(io.BytesIO(raw), formats=("JPEG", "PNG")) as image:
                if frames and image.size[::-1] != frames[0].shape[:2]:
                    first = frames[0].shape[1::-1]
                    raise ValueError(f"{image.size} pixels, the first has {first}")
                frames.append(_pixels(image))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"frame {number} cannot be used ({error})") from error
        if frames[-1].shape != frames[0].shape:
            raise ValueError(f"frame {number} is {frames[-1].shape}, the first {frames[0].shape}")
    return as_frames(np.stack(frames))


def _pixels(image: Image.Image) -> npt.NDArray[np.uint8]:
    if image.mode[0] in "IF":
        raise ValueError(f"more than 8 bits per channel, mode {image.mode!r}")
    return np.asarray(image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGB"))
