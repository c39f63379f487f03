"""Keeping the failures of an observer away from training."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from attrs import define

logger = logging.getLogger("simscaleai")

_PATIENCE = 3


@define
class Fence:
    """Calls one observer; its exceptions are logged, and after three it is switched off.

    Only for observers that take no part in communication between ranks: a swallowed exception on
    one rank would hang the others.
    """

    name: str
    """Who is fenced, for messages."""
    failures: int = 0
    """Exceptions so far."""

    @property
    def is_off(self) -> bool:
        """Whether the observer has been switched off."""
        return self.failures >= _PATIENCE

    def call(self, function: Callable[..., Any], *values: Any) -> None:
        """Call a function of the observer, unless it is switched off."""
        if self.is_off:
            return
        try:
            function(*values)
        except Exception as error:
            self.failures += 1
            logger.warning(
                "%s failed (%d of %d): %s: %s",
                self.name, self.failures, _PATIENCE, type(error).__name__, error,
                exc_info=self.failures == 1,
            )  # fmt: skip
            if self.is_off:
                logger.warning("%s is switched off for the rest of the run", self.name)
