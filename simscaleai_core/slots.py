"""Slots of the configuration that plugins fill, and the option tables that belong to components."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import attrs

from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import ConfigError
from simscaleai_core.host import Host

logger = logging.getLogger("simscaleai")

_SINGLE_SLOTS = {
    "model": "model_name",
    "dataset": "dataset_name",
    "env": "env",
    "precision": "precision",
    "strategy": "strategy",
    "checkpoint_backend": "checkpoint_backend",
}
_CLOSED_LOOP = "closed_loop"
_MANY_SLOTS = {"logger": "loggers", "eval_function": "eval_fns", "extension": "extensions"}


def fill_slots(config: TrainConfig, host: Host, given: Iterable[str] | None = None) -> TrainConfig:
    """Let the required plugins fill the slots that the user left empty.

    Args:
        config: The configuration.
        host: Knows what the required plugins select.
        given: Fields that the user set; those that differ from their default if None.

    Returns:
        The configuration with the slots filled.

    Raises:
        ConfigError: If two required plugins select different components for one slot.
    """
    defaults = TrainConfig()
    if given is None:
        fields = [f.name for f in attrs.fields(TrainConfig)]
        given = [n for n in fields if getattr(config, n) != getattr(defaults, n)]
    changes: dict[str, Any] = {}
    for kind, slot in _SINGLE_SLOTS.items():
        chosen = host.selected(kind) if host.selection.required and slot not in given else []
        if len(chosen) > 1:
            flag = f"--{kind.replace('_', '-')}"
            raise ConfigError(
                f"the plugins that were asked for select different components for {slot}: "
                f"{', '.join(chosen)}. Choose one with {flag}."
            )
        if chosen:
            changes[slot] = chosen[0]
    loggers = [*config.loggers, *(["wandb"] if config.use_wandb else [])]
    for kind, slot in _MANY_SLOTS.items():
        present = loggers if slot == "loggers" else list(getattr(config, slot))
        extra = host.selected(kind) if host.selection.required else []
        short = {name.rpartition("/")[2] for name in present}
        changes[slot] = (*present, *(n for n in extra if n.rpartition("/")[2] not in short))
        changes[slot] = tuple(dict.fromkeys(changes[slot]))
    filled = attrs.evolve(config, **changes)
    if filled.env and not any(n.endswith(_CLOSED_LOOP) for n in filled.eval_fns):
        filled = attrs.evolve(filled, eval_fns=(*filled.eval_fns, _CLOSED_LOOP))
    return filled


def used_plugins(config: TrainConfig, host: Host) -> list[str]:
    """Return the plugins of which a configuration names a component, sorted."""
    slots = [getattr(config, slot) for slot in _SINGLE_SLOTS.values()]
    named = {*slots, *(n for slot in _MANY_SLOTS.values() for n in getattr(config, slot))}
    return sorted({c.plugin for c in host.components if named & {c.id, c.spec.name}})


def warn_of_unused(config: TrainConfig, host: Host) -> None:
    """Warn of plugins that were asked for and of which the run uses nothing."""
    used = used_plugins(config, host)
    for name in host.selection.required:
        if host.canonical(name) not in used:
            logger.warning("plugin %r was asked for, but this run uses nothing of it", name)


def check_option_tables(config: TrainConfig, host: Host) -> None:
    """Refuse a table of options that belongs to no component: a misspelt name would do nothing.

    Raises:
        ConfigError: If there is one; all of them are named.
    """
    known = {n for c in host.components for n in (c.id, c.spec.name)} if config.options else set()
    unknown = sorted(set(config.options) - known)
    if unknown:
        raise ConfigError(
            *(f"options for {name!r}, which is no installed component. Known: "
              f"{', '.join(sorted(n for n in known if '/' not in n))}." for name in unknown)
        )  # fmt: skip
