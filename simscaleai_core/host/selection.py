"""Which plugins may be found, and which are required: flags and environment as one record."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from simscaleai_core.errors import ConfigError

BUILTIN = "builtin"
"""Name of the plugin that the core itself is."""


class PluginSelection(NamedTuple):
    """What the user said about plugins. Denying beats allowing."""

    required: tuple[str, ...] = ()
    """Plugins that must load: ``--plugin`` and ``SIMSCALE_PLUGIN``."""
    blocked: frozenset[str] = frozenset()
    """Plugins that are never imported: ``--no-plugin`` and ``-name`` in ``SIMSCALE_PLUGINS``."""
    allowed: frozenset[str] | None = None
    """The only plugins that may be found, or None for all; the empty set is none."""
    strict: bool = False
    """Whether any fault of any plugin is an error: ``SIMSCALE_PLUGINS_STRICT=1``."""

    @property
    def is_limited(self) -> bool:
        """Whether any plugin may be kept out."""
        return bool(self.blocked) or self.allowed is not None

    def blocks(self, *names: str) -> str:
        """Return why a plugin known under these names may not be imported, or nothing."""
        if self.blocked.intersection(names):
            return "blocked by --no-plugin or SIMSCALE_PLUGINS"
        if self.allowed is not None and not self.allowed.intersection(names):
            return "not among the plugins that SIMSCALE_PLUGINS or --no-plugins allows"
        return ""


def select_plugins(
    required: Iterable[str] = (),
    *,
    blocked: Iterable[str] = (),
    none: bool = False,
    environ: Mapping[str, str] | None = None,
) -> PluginSelection:
    """Return what the flags and ``SIMSCALE_PLUGIN``, ``_PLUGINS``, ``_PLUGINS_STRICT`` say.

    Args:
        required: Names given with ``--plugin``; each may be a comma-separated list.
        blocked: Names given with ``--no-plugin``; likewise.
        none: ``--no-plugins``: only what the core brings.
        environ: The environment; the process's own if None.

    Raises:
        ConfigError: If a plugin is both required and kept out.
    """
    environ = os.environ if environ is None else environ
    allowed, denied = _parse(environ.get("SIMSCALE_PLUGINS"))
    wanted = tuple(dict.fromkeys(_split([*required, environ.get("SIMSCALE_PLUGIN", "")])))
    denied |= set(_split(blocked))
    if none:
        allowed = frozenset()
    selection = PluginSelection(
        required=wanted,
        blocked=frozenset(denied),
        allowed=allowed,
        strict=environ.get("SIMSCALE_PLUGINS_STRICT", "") not in {"", "0"},
    )
    for name in wanted:
        reason = selection.blocks(name)
        if reason and name != BUILTIN and not is_unpublished(name):
            raise ConfigError(
                f"plugin {name!r} is asked for and kept out at once: it is {reason}. "
                "Drop one of the two."
            )
    return selection


def is_file(name: str) -> bool:
    """Return whether ``--plugin`` names a Python file."""
    return name.endswith(".py")


def is_unpublished(name: str) -> bool:
    """Return whether ``--plugin`` names a file or a module: a plugin that is being written."""
    return "." in name


def _split(names: Iterable[str]) -> list[str]:
    return [part.strip() for name in names for part in name.split(",") if part.strip()]


def _parse(value: str | None) -> tuple[frozenset[str] | None, set[str]]:
    if value is None:
        return None, set()
    names = _split([value])
    denied = {name[1:] for name in names if name.startswith("-")}
    allowed = frozenset(name for name in names if not name.startswith("-"))
    only_denials = bool(denied) and not allowed
    return (None if only_denials else allowed), denied
