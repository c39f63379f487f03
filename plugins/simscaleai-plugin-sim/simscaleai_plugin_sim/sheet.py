"""Episodes on one picture: a row each, with a border that tells success from failure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image as Picture

from simscaleai_plugin_sim.film import Frame

SUCCESS_RGB = (0, 158, 115)
FAILURE_RGB = (213, 94, 0)
"""Green and vermilion of Okabe and Ito's palette, which colour-blind people can tell apart."""

_SIDE = 160
"""Longer side of a picture on the sheet [pixels]."""
_BORDER = 4
"""Width of the coloured border around a row [pixels]."""


def thumbnail(frame: Frame) -> Frame:
    """Return a frame `[H, W, 3]` made small enough for the sheet."""
    picture = Picture.fromarray(frame)
    picture.thumbnail((_SIDE, _SIDE))
    return np.asarray(picture)


def contact_sheet(rows: Sequence[tuple[Sequence[Frame], bool]]) -> Frame:
    """Return one picture of episodes.

    Args:
        rows: For each episode its pictures `[h, w, 3]`, all of one size, and whether it succeeded.

    Returns:
        Picture `[H, W, 3]`: rows of pictures side by side, shorter ones filled up with white, each
        in a border that is green for success and vermilion for failure.
    """
    wide = max(len(pictures) for pictures, _ in rows)
    strips = []
    for pictures, success in rows:
        strip = np.concatenate(list(pictures), axis=1)
        missing = (wide - len(pictures)) * pictures[0].shape[1]
        strip = np.pad(strip, ((0, 0), (0, missing), (0, 0)), constant_values=255)
        colour = SUCCESS_RGB if success else FAILURE_RGB
        height, width = strip.shape[:2]
        framed = np.full((height + 2 * _BORDER, width + 2 * _BORDER, 3), colour, dtype=np.uint8)
        framed[_BORDER:-_BORDER, _BORDER:-_BORDER] = strip
        strips.append(framed)
    sheet: Frame = np.concatenate(strips)
    return sheet
