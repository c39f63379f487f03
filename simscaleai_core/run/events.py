"""What a run fires, compiled once before the first step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from attrs import frozen

from simscaleai_core.contracts import Batch


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
