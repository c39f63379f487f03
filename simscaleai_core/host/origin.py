"""Saying which plugin an exception came from, as a note on its traceback."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from simscaleai_core.errors import SimScaleError
from simscaleai_core.host.records import Component
from simscaleai_core.host.selection import BUILTIN

_NOTE = "raised in the code of plugin"


@contextmanager
def naming_origin(components: Iterable[Component]) -> Iterator[None]:
    """Add a note to an exception of the body: whose code raised it.

    Args:
        components: Everything that plugins declare; their packages are looked for among the frames.
    """
    try:
        yield
    except Exception as error:
        is_clear = isinstance(error, SimScaleError)  # it says itself what to do
        owner = None if is_clear else _innermost_owner(error, components)
        if owner is not None and not any(_NOTE in n for n in getattr(error, "__notes__", ())):
            error.add_note(f"{_NOTE} {owner.plugin!r} ({owner.distribution})")
        raise


def _innermost_owner(error: Exception, components: Iterable[Component]) -> Component | None:
    packages = {_package(c.spec.target): c for c in components if c.plugin != BUILTIN}
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    names = (_package(str(frame.f_globals.get("__name__", ""))) for frame in reversed(frames))
    return next((packages[name] for name in names if name in packages), None)


def _package(target: str) -> str:
    return target.partition(":")[0].partition(".")[0]
