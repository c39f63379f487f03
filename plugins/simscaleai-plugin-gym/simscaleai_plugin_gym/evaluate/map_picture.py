"""A success map as a picture, for the loggers that can hold one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from simscaleai_plugin_gym.evaluate.condition_map import SuccessMap
from simscaleai_plugin_gym.video.frames import Frame

_CELL = 64
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 40, 40, 36
_LARGE, _SMALL = 18, 13
_PAPER, _INK, _SOFT = (255, 255, 255), (12, 15, 19), (93, 102, 113)
_RAMP = ((184, 66, 12), (243, 237, 228), (36, 92, 198))
"""Colours of no success, half and all: orange and blue, which colour-blind people tell apart."""
_LEGIBLE = 0.19
"""Relative luminance from which on dark letters are read more easily than light ones."""


def picture_of(found: SuccessMap) -> Frame:
    """Draw a success map.

    Args:
        found: The map.

    Returns:
        Picture `[H, W, 3]`: the first quantity across and the second up, each cell with the share
        of its episodes that succeeded, and of how many.
    """
    columns, rows = found.counts.shape
    size = (_LEFT + columns * _CELL + _RIGHT, _TOP + rows * _CELL + _BOTTOM)
    image = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(image)
    title = f"{found.names[0]} across, {found.names[1]} up"
    draw.text((_LEFT, _TOP / 2), title, _INK, _font(_SMALL), "lm")
    for i in range(columns):
        for j in range(rows):
            x, y = _LEFT + i * _CELL, _TOP + (rows - 1 - j) * _CELL
            _draw_cell(draw, x, y, int(found.successes[i, j]), int(found.counts[i, j]))
    bottom = _TOP + rows * _CELL
    for place, label in _places(found.labels(0), columns):
        draw.text((_LEFT + place * _CELL, bottom + 8), label, _SOFT, _font(_SMALL), "mt")
    for place, label in _places(found.labels(1), rows):
        draw.text((_LEFT - 8, bottom - place * _CELL), label, _SOFT, _font(_SMALL), "rm")
    return np.asarray(image)


def _draw_cell(draw: Any, x: int, y: int, good: int, count: int) -> None:
    box = (x + 1, y + 1, x + _CELL - 2, y + _CELL - 2)
    if not count:
        draw.rectangle(box, outline=(223, 227, 232))
        return
    share = good / count
    colour = [np.interp(share, (0.0, 0.5, 1.0), each) for each in zip(*_RAMP, strict=True)]
    luminance = np.dot((0.2126, 0.7152, 0.0722), (np.array(colour) / 255) ** 2.2)
    ink = _INK if luminance > _LEGIBLE else _PAPER
    draw.rectangle(box, fill=tuple(round(float(each)) for each in colour))
    middle = x + _CELL / 2
    draw.text((middle, y + 0.4 * _CELL), f"{share:.0%}", ink, _font(_LARGE), "mm")
    draw.text((middle, y + 0.72 * _CELL), f"{good}/{count}", ink, _font(_SMALL), "mm")


def _places(labels: list[str], cells: int) -> Iterator[tuple[float, str]]:
    """Yield where words stand, in cells: in the middle of each, or at its borders."""
    offset = 0.5 if len(labels) == cells else 0.0
    yield from ((place + offset, label) for place, label in enumerate(labels))


def _font(size: int) -> Any:
    return ImageFont.load_default(size)
