"""Keeping the failures of an observer away from training."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from attrs import define

logger = logging.getLogger("simscaleai")

_MAX_FAILURES = 3


@define
class FaultIsolation:
    """Calls one observer; its exceptions are logged, and after three it is disabled.

    Only for observers that take no part in communication between ranks: a swallowed exception on
    one rank would hang the others.
    """

    name: str
    """The observer, for messages."""
    failures: int = 0
    """Exceptions so far."""

    @property
    def is_disabled(self) -> bool:
        """Whether the observer has been disabled."""
        return self.failures >= _MAX_FAILURES

    def call(self, function: Callable[..., Any], *values: Any) -> None:
        """Call a function of the observer, unless it is disabled."""
        if self.is_disabled:
            return
        try:
            function(*values)
        except Exception as error:
            self.failures += 1
            count, kind = f"{self.failures} of {_MAX_FAILURES}", type(error).__name__
            message = "%s failed (%s): %s: %s"
            logger.warning(message, self.name, count, kind, error, exc_info=self.failures == 1)
            if self.is_disabled:
                logger.warning("%s is disabled for the rest of the run", self.name)
