"""Distances from the codes of a depth video."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

_LARGEST_CODE = 4095
_LOW, _HIGH = "video.depth_min", "video.depth_max"


def has_range(details: Mapping[str, Any]) -> bool:
    """Return whether the ``info`` of a feature says which distances its codes stand for."""
    return details.get(_LOW) is not None and details.get(_HIGH) is not None


def distances(
    codes: npt.NDArray[np.integer[Any]], details: Mapping[str, Any]
) -> npt.NDArray[np.generic]:
    """Return the distances that codes of 12 bits stand for.

    Args:
        codes: Pixels of the video `[T, H, W]`.
        details: The ``info`` of the feature: its range, ``video.depth_min`` to ``video.depth_max``
            [m], ``video.shift`` [m] and ``video.use_log``; and ``depth_unit``, m or mm.

    Returns:
        float32 `[T, H, W]` in that unit, millimetres if none is given; the codes themselves if no
        range is given.

    Source:
        lerobot 0.6.1, `quantize_depth`: code / 4095 is the fraction of the way from the nearest to
        the farthest distance, or of the way between the logarithms of distance + shift.
    """
    if not has_range(details):
        return codes.astype(np.uint16)
    low, high = details[_LOW], details[_HIGH]
    fraction = codes.astype(np.float32) / _LARGEST_CODE
    if details.get("video.use_log", True):
        shift = details.get("video.shift", 3.5)
        first, last = math.log(low + shift), math.log(high + shift)
        metres = np.exp(first + fraction * (last - first)) - shift
    else:
        metres = low + fraction * (high - low)
    distance: npt.NDArray[np.float32] = np.clip(metres, low, high).astype(np.float32)
    if details.get("depth_unit", "mm") == "m":
        return distance
    millimetres: npt.NDArray[np.float32] = np.rint(distance * 1000)
    return millimetres
