"""Functions that a command line names as ``module:function``, looked at before they are trusted."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_gym.envs.failures import one_line


def search_here() -> None:
    """Let ``module:EnvId`` and ``module:function`` name a file of the present directory."""
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # last, so that a file here shadows nothing


def check_module(what: str, module: str) -> None:
    """Check the name of a module before it is imported.

    Args:
        what: What is named and how, for the message, such as ``"success 'os:system'"``.
        module: Name of the module.

    Raises:
        ConfigError: If it is no name, or one of Python's own modules.
    """
    if not all(part.isidentifier() for part in module.split(".")):
        raise ConfigError(f"{what}: expected the name of a module before the colon, got {module!r}")
    if _top(module) in sys.stdlib_module_names:
        raise ConfigError(
            f"{what} is of Python's standard library: expected a module of yours or of a package "
            f"that was installed for it, got {module!r}. Write the function in a file of your own."
        )


def imported(what: str, module: str, attribute: str) -> Any:
    """Return what a module holds under a name.

    Args:
        what: As for `check_module`.
        module: Name of the module, which is imported.
        attribute: The name.

    Raises:
        ConfigError: If importing fails in any way, or there is no such name.
    """
    check_module(what, module)
    try:
        return getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"{what} cannot be imported: {one_line(error)}. Check the name, and that it can be "
            "imported from here."
        ) from error


def check_callable(what: str, found: Any, arguments: Sequence[str], *, exactly: bool) -> None:
    """Check, without calling it, that something can be called with some arguments.

    Args:
        what: As for `check_module`.
        found: A function, or an object that can be called like one.
        arguments: Names of what it will get by position.
        exactly: Whether it must have been written for these, so that ``*args`` will not do.

    Raises:
        ConfigError: If it is no function of these arguments, a builtin such as ``os.system``, or
            of Python's standard library.
    """
    wanted = f"{what}: expected a function of ({', '.join(arguments)})"
    if inspect.isclass(found) or not callable(found):
        raise ConfigError(f"{wanted}, got {type(found).__name__}")
    is_standard = _top(getattr(found, "__module__", None)) in sys.stdlib_module_names
    if inspect.isbuiltin(found) or (is_standard and inspect.isroutine(found)):
        raise ConfigError(
            f"{wanted} of your own, got one of Python's standard library or a builtin"
        )
    try:
        signature = inspect.signature(found)
        signature.bind(*arguments)
    except (TypeError, ValueError) as error:
        text = f"{wanted}, got one that does not take them: {error}"
        raise ConfigError(f"{text}. Give it these arguments.") from None
    if exactly and any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values()):
        raise ConfigError(f"{wanted}, got {signature}. Give it these arguments.")


def _top(module: str | None) -> str:
    return (module or "").partition(".")[0]
