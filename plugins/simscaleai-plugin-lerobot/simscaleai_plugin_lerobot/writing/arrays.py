"""Columns of a written parquet file from arrays.

T: timesteps of an episode.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

_COMPRESS_LEVEL = 1


def column_of(values: npt.NDArray[np.generic]) -> pa.Array:
    """Return an array `[T, ...]` as a column: numbers, or lists as deep as it has dimensions.

    Args:
        values: Numbers; one a timestep if it is `[T, 1]`.
    """
    column = pa.array(np.ascontiguousarray(values).ravel())
    sizes = values.shape[1:]
    if sizes == (1,):
        return column
    if len(sizes) == 1:
        return pa.FixedSizeListArray.from_arrays(column, sizes[0])
    for size in reversed(sizes):
        edges = pa.array(np.arange(0, len(column) + 1, size, dtype=np.int32))
        column = pa.ListArray.from_arrays(edges, column)
    return column


def image_column(blobs: Sequence[bytes]) -> pa.Array:
    """Return images as a column, as the library `datasets` stores them."""
    names = pa.array([f"frame-{number:06d}.png" for number in range(len(blobs))])
    return pa.StructArray.from_arrays([pa.array(blobs, pa.binary()), names], ["bytes", "path"])


def png_of(frames: npt.NDArray[np.uint8]) -> Iterator[bytes]:
    """Yield frames `[T, H, W, C]` as PNG."""
    for frame in frames:
        file = io.BytesIO()
        image = Image.fromarray(frame[..., 0] if frame.shape[2] == 1 else frame)
        image.save(file, format="PNG", compress_level=_COMPRESS_LEVEL)
        yield file.getvalue()
