"""The rule for values: every number is finite in float32."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from simscaleai_plugin_hdf5.faults import Place


def finite_rows(
    values: npt.NDArray[np.generic], width: int, place: Place
) -> npt.NDArray[np.float32]:
    """Convert values to float32 rows and check each of them.

    Args:
        values: Real numbers `[T, ...]`.
        width: Numbers in one timestep.
        place: Where they are, for messages.

    Returns:
        The same numbers, float32 `[T, width]`.

    Raises:
        DataError: If a value is NaN, infinite, or too large for float32.
    """
    with np.errstate(over="ignore"):
        rows = values.reshape(len(values), width).astype(np.float32)
    finite = np.isfinite(rows)
    if not finite.all():
        step, dimension = (int(i) for i in np.unravel_index(int(finite.argmin()), rows.shape))
        value = values.reshape(len(values), width)[step, dimension]
        raise place.fault(
            "finite float32 numbers",
            f"{value} at timestep {step}, dimension {dimension}",
            "Remove or repair the episode",
        )
    return rows
