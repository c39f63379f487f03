"""Which of several ways an episode took, as the environment says, and how they are shared out.

N: environments (`num_envs`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import log2
from typing import Any

import numpy as np

from simscaleai_plugin_gym.envs.adapter import EnvAdapter, Infos

INFO_KEY = "mode"
"""Key of info that says which way was taken, a text or a number, at any step: the last counts."""

Mode = str | int | float | bool


def modes_at(adapter: EnvAdapter, infos: Infos) -> dict[int, Mode]:
    """Return what was reported in one step: modes by environment.

    Args:
        adapter: Where the episodes run.
        infos: Info of the step.
    """
    values, present = adapter.reported(infos, INFO_KEY)
    modes: dict[int, Mode] = {}
    for index in np.flatnonzero(present).tolist():
        value = values[index]
        value = value.item() if isinstance(value, np.generic) else value
        if isinstance(value, Mode):
            modes[index] = value
    return modes


def mode_results(modes: Sequence[Mode | None]) -> dict[str, Any]:
    """Return what results say about modes; nothing if there were none.

    Args:
        modes: The way that each episode took; None where it is not known.

    Returns:
        ``modes`` of the episodes; over those that took one ``mode_shares`` [fraction] by mode and
        ``mode_entropy`` [bits]: 0 if all went the same way, 1 if two ways are equally frequent.

    Source:
        Shannon 1948 (Bell Syst. Tech. J. 27(3)), section 6, of the observed shares.

    Example:
        >>> found = mode_results(["left", "right", None, "left", "right"])
        >>> found["mode_shares"], found["mode_entropy"]
        ({'left': 0.5, 'right': 0.5}, 1.0)
    """
    counts = Counter(str(mode) for mode in modes if mode is not None)
    if not counts:
        return {}
    shares = {mode: counts[mode] / counts.total() for mode in sorted(counts)}
    entropy = sum(share * -log2(share) for share in shares.values())
    return {"mode_shares": shares, "mode_entropy": entropy, "modes": list(modes)}
