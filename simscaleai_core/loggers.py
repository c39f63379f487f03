"""Several loggers as one, each fenced from the others and from training."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from simscaleai_core.fence import Fence
from simscaleai_core.mechanisms import Logger
from simscaleai_core.metrics import floats_of
from simscaleai_core.seeding import forked_rng

logger = logging.getLogger("simscaleai")


class LoggerGroup:
    """Hands everything to each logger; one that fails three times is switched off.

    Args:
        members: (name, logger) in the order in which they are told.
    """

    def __init__(self, members: Sequence[tuple[str, Logger]]) -> None:
        self._members = [(Fence(f"logger {name!r}"), member) for name, member in members]

    def start(self, facts: Mapping[str, Any], step: int) -> None:
        """Begin, or continue at `step`. Failures here are the user's to mend and are raised."""
        with forked_rng():
            for _, member in self._members:
                member.start(facts, step)

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Record the numbers of a step; random numbers that a logger draws change nothing.

        Args:
            metrics: What the loop and its listeners gave; each logger gets host floats.
            step: Steps completed.
        """
        if not self._members:
            return
        numbers = floats_of(metrics)
        with forked_rng():
            for fence, member in self._members:
                fence.call(member.log, numbers, step)

    def log_pictures(self, pictures: Mapping[str, Any], step: int) -> None:
        """Hand pictures, uint8 arrays `[H, W, 3]`, to the loggers that can hold them."""
        for fence, member in self._members:
            holds = getattr(member, "log_pictures", None)
            if holds is not None and pictures:
                fence.call(holds, pictures, step)

    def close(self, status: str) -> None:
        """Finish each logger, and say which ones were switched off."""
        for fence, member in self._members:
            Fence(fence.name).call(member.close, status)
            if fence.is_off:
                logger.warning("%s was switched off: its records are incomplete", fence.name)
