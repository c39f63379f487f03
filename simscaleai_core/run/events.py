"""What a run fires, compiled once before the first step, and how its observers are isolated."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from attrs import define, frozen

from simscaleai_core.contracts import Batch

logger = logging.getLogger("simscaleai")

_MAX_FAILURES = 3


def _nothing(*_: Any) -> None:
    """Hear nothing: the event of a run without listeners."""


@frozen(kw_only=True)
class Events:
    """What a run fires, compiled once: hot events as tuples, so that no listener costs nothing."""

    transform_batch: tuple[Callable[[Any, Batch], Batch], ...] = ()
    grads_ready: tuple[Callable[[Any], bool | None], ...] = ()
    step_end: tuple[Callable[[Any, Mapping[str, Any]], None], ...] = ()
    run_setup: Callable[[Any], None] = _nothing
    run_start: Callable[[Any], None] = _nothing
    eval_context: tuple[Callable[[Any], AbstractContextManager[Any] | None], ...] = ()
    metrics: Callable[[Any, dict[str, float]], None] = _nothing
    eval_end: Callable[[Any, str, Mapping[str, float]], None] = _nothing
    checkpoint_saved: Callable[[Any, Any], None] = _nothing
    run_exception: Callable[[Any, BaseException], None] = _nothing
    run_end: Callable[[Any, str], None] = _nothing
    hook: Any = None
    """Fires hooks that plugins define, by name: a pluggy relay."""


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
            # where a full disk or a lost connection was met does not help
            shows_place = self.failures == 1 and not isinstance(error, OSError)
            logger.warning(message, self.name, count, kind, error, exc_info=shows_place)
            if self.is_disabled:
                logger.warning("%s is disabled for the rest of the run", self.name)
