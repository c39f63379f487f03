"""Which plugins may be found, and which are required: flags and environment as one record."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from simscaleai_core.errors import ConfigError
from simscaleai_core.host.entry_points import normalized

BUILTIN = "builtin"
"""Name of the plugin that the core itself is."""


class PluginSelection(NamedTuple):
    """What the user said about plugins, as packaging compares names. Denying beats allowing."""

    required: tuple[str, ...] = ()
    """Plugins that must load, as they were typed: ``--plugin`` and ``SIMSCALE_PLUGIN``."""
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
        known = set(map(normalized, names))
        if self.blocked & known:
            return "blocked by --no-plugin or SIMSCALE_PLUGINS"
        if self.allowed is not None and not self.allowed & known:
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

    A name may be a comma-separated list; with `none` only what the core brings is allowed.

    Raises:
        ConfigError: If a plugin is both required and kept out.
    """
    environ = os.environ if environ is None else environ
    wanted = tuple(dict.fromkeys(_split([*required, environ.get("SIMSCALE_PLUGIN", "")])))
    listed = _split([environ.get("SIMSCALE_PLUGINS", "")])
    denied = [name[1:] for name in listed if name.startswith("-")]
    kept = (name for name in listed if not name.startswith("-"))
    allowed: frozenset[str] | None = frozenset(map(normalized, kept))
    if none:
        allowed = frozenset()
    elif "SIMSCALE_PLUGINS" not in environ or (denied and not allowed):
        allowed = None
    selection = PluginSelection(
        required=wanted,
        blocked=frozenset(map(normalized, [*denied, *_split(blocked)])),
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
