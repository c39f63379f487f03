"""What the state does where an action is at the end of its range.

An action that was cut off after it had been carried out stands for motions of every size; one that
the robot was really given moves it at its greatest speed. T: timesteps.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from attrs import frozen

Array = npt.NDArray[np.float64]

_TIMESTEPS = 20  # at the ends, and between them


@frozen(kw_only=True)
class AtEnds:
    """One dimension of the action at the ends of its range."""

    share: float = 0.0
    """Part of the timesteps at one of both ends."""
    scatter: float = 0.0
    """Deviation of the state's change there, in its mean."""
    excess: float = 0.0
    """The same deviation in that which is left between the ends by a straight line."""

    @property
    def is_cut_off(self) -> bool:
        """Return whether the state changes as if the action had been larger."""
        return self.share >= 0.3 and self.scatter >= 0.35 and self.excess >= 1.05


def measure_ends(cause: Array, change: Array) -> AtEnds:
    """Measure one dimension.

    Args:
        cause: The action `[T]`.
        change: The change of the state that it moves, positive with the action `[T]`.

    Returns:
        What happens at its ends; nothing if there is too little data.

    Source:
        Ours.
    """
    low, high = cause.min(), cause.max()
    margin = 1e-6 * (high - low)
    at_low, at_high = cause <= low + margin, cause >= high - margin
    between = ~at_low & ~at_high
    outward = np.concatenate([-change[at_low], change[at_high]])
    if min(len(outward), between.sum()) < _TIMESTEPS:
        return AtEnds()
    slope, offset = line(cause[between], change[between])
    left = _deviation(change[between] - slope * cause[between] - offset)
    scatter, middle = _deviation(outward), abs(float(np.median(outward)))
    return AtEnds(
        share=len(outward) / len(cause),
        scatter=scatter / max(middle, 1e-300),
        excess=scatter / max(left, 1e-300),
    )


def line(x: Array, y: Array) -> tuple[float, float]:
    """Return slope and offset of the straight line of least squares from `x` to `y` `[T]`."""
    away = x - x.mean()
    square = float(away @ away)
    slope = float(away @ y) / square if square > 0 else 0.0
    return slope, float(y.mean() - slope * x.mean())


def _deviation(values: Array) -> float:
    """Return the standard deviation from the quartiles, which a few episodes change little."""
    low, high = np.percentile(values, (25, 75))
    return float(high - low) / 1.349
