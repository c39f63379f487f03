"""Success in cells, as a picture that the template draws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from attrs import frozen

WIDTH = 360
"""Width of the picture: that of a phone, on which a unit is a pixel."""

_RIGHT, _TOP, _BOTTOM = 18, 8, 22
_LEAST_LEFT, _LETTER, _GAP = 44, 6.2, 6
"""Room beside the rows: at least this much, and that of their longest word."""
_CELL_HEIGHT = 44
_LEAST_WIDTH = 38
"""Width of a column that a share fits into; a picture of more columns is scrolled."""
_RAMP = ((184, 66, 12), (243, 237, 228), (36, 92, 198))
"""Colours of no success, half and all: orange and blue, which colour-blind people tell apart."""
_DARK, _LIGHT = "#0c0f13", "#ffffff"
_LEGIBLE = 0.19
"""Relative luminance from which on dark letters are read more easily than light ones."""


@frozen(kw_only=True)
class Share:
    """What is to be shown in one cell."""

    share: float
    """Share of the episodes that succeeded [fraction]."""
    below: str
    """What stands under it."""
    title: str
    """The cell in a sentence, for those who point at it or hear it."""
    is_marked: bool = False
    """Whether it gets a border."""


@frozen(kw_only=True)
class Cell:
    """A cell where it is drawn."""

    x: float
    """Left side."""
    y: float
    """Upper side."""
    fill: str
    """Colour; none in an empty cell."""
    ink: str
    """Colour of the text in it."""
    percent: str
    """The share in words; nothing in an empty cell."""
    below: str
    """What stands under it."""
    title: str
    """The cell in a sentence."""
    is_marked: bool
    """Whether it has a border."""


@frozen(kw_only=True)
class Mark:
    """A word at an axis."""

    at: float
    """Where it is."""
    label: str
    """What is there."""


@frozen(kw_only=True)
class HeatMap:
    """Cells in columns and rows."""

    across: str
    """What the columns are."""
    up: str
    """What the rows are; nothing if there is one."""
    title: str
    """What it is a picture of."""
    left: float
    """Where the words beside the rows end."""
    width: float
    """Width of the picture."""
    height: float
    """Height of the picture."""
    cell_width: float
    """Width of a cell."""
    cell_height: float
    """Height of a cell."""
    cells: Sequence[Cell]
    """The cells."""
    columns: Sequence[Mark]
    """Words under the columns."""
    rows: Sequence[Mark]
    """Words beside the rows."""


def heat_map(
    shares: Sequence[Sequence[Share | None]],
    *,
    across: tuple[str, Sequence[str]],
    up: tuple[str, Sequence[str]],
    title: str,
) -> HeatMap:
    """Lay out a picture of shares.

    Args:
        shares: Those of each column, from the lowest row up; None for an empty cell.
        across: What the columns are, and their words: one each, or one more for their borders.
        up: The same of the rows.
        title: What it is a picture of.

    Returns:
        The picture.
    """
    columns, rows = len(shares), len(shares[0])
    left = max(_LEAST_LEFT, _LETTER * max(map(len, up[1])) + _GAP)
    inner = max(WIDTH - left - _RIGHT, _LEAST_WIDTH * columns)
    wide = inner / columns
    bottom = _TOP + rows * _CELL_HEIGHT
    return HeatMap(
        across=across[0],
        up=up[0],
        title=title,
        left=round(left - _GAP, 2),
        width=round(inner + left + _RIGHT, 2),
        height=bottom + _BOTTOM,
        cell_width=round(wide, 2),
        cell_height=_CELL_HEIGHT,
        cells=[
            _cell(share, left + i * wide, bottom - (j + 1) * _CELL_HEIGHT)
            for i, column in enumerate(shares)
            for j, share in enumerate(column)
        ],
        columns=_marks(across[1], columns, left, wide),
        rows=_marks(up[1], rows, bottom, -_CELL_HEIGHT),
    )


def _cell(share: Share | None, x: float, y: float) -> Cell:
    fill, ink = ("none", _DARK) if share is None else _colours(share.share)
    return Cell(
        x=round(x, 2),
        y=y,
        fill=fill,
        ink=ink,
        percent="" if share is None else f"{share.share:.0%}",
        below="" if share is None else share.below,
        title="no episodes" if share is None else share.title,
        is_marked=share is not None and share.is_marked,
    )


def _marks(labels: Sequence[str], number: int, start: float, step: float) -> list[Mark]:
    """Return words in the middle of their cells, or at the borders if there is one more."""
    offset = 0.0 if len(labels) > number else 0.5
    return [
        Mark(at=round(start + (place + offset) * step, 2), label=label)
        for place, label in enumerate(labels)
        if label
    ]


def _colours(share: float) -> tuple[str, str]:
    """Return the colour of a share and that of the text on it."""
    mixed = [np.interp(share, (0.0, 0.5, 1.0), channel) for channel in zip(*_RAMP, strict=True)]
    linear = [(value / 255) ** 2.2 for value in mixed]
    luminance = float(np.dot((0.2126, 0.7152, 0.0722), linear))
    fill = "#" + "".join(f"{round(float(value)):02x}" for value in mixed)
    return fill, _DARK if luminance > _LEGIBLE else _LIGHT
