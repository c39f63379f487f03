"""The option ``--quiet`` of commands that take long."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, TypeVar

from cyclopts import Parameter

from simscaleai_core.cli.flags import QUIET
from simscaleai_core.cli.output import be_quiet

_T = TypeVar("_T")

_Quiet = Annotated[bool, Parameter(name=("--quiet", "-q"), negative="", help=QUIET)]


def with_quiet(command: Callable[..., _T]) -> Callable[..., _T]:
    """Give a command the option ``--quiet``.

    Args:
        command: A function that cyclopts makes a command from.

    Returns:
        The command, with one keyword parameter more.
    """

    @wraps(command)
    def quieted(*arguments: Any, quiet: bool = False, **given: Any) -> _T:
        be_quiet(quiet)
        return command(*arguments, **given)

    added = inspect.Parameter(
        "quiet", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_Quiet
    )
    shown = inspect.signature(command).parameters.values()
    quieted.__signature__ = inspect.Signature([*shown, added])  # type: ignore[attr-defined]
    quieted.__annotations__ = {**command.__annotations__, "quiet": _Quiet}
    return quieted
