"""Commands of plugins: the installed ones, and those that our own distributions would bring.

Each name is one command's. The core's own come first; then the one of the project's distribution
that `COMMANDS` names; then one of a plugin that was asked for; then by the distribution's name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import metadata
from typing import NamedTuple

from simscaleai_core.host.entry_points import GROUP, Offer, normalized, offers
from simscaleai_core.host.selection import PluginSelection

COMMAND_GROUP = "simscaleai.commands"
"""Entry-point group of commands; ``plugins.new`` is ``simscale plugins new``."""

_NAME = re.compile(r"[A-Za-z][\w-]*(\.[A-Za-z][\w-]*)?\Z", re.ASCII)


class KnownCommand(NamedTuple):
    """A command of one of the project's own distributions."""

    distribution: str
    """The distribution that brings it."""
    summary: str
    """One line of help."""


class RefusedCommand(NamedTuple):
    """A command of a plugin that cannot be called."""

    offer: Offer
    """The command and the distribution that brings it."""
    reason: str
    """Why it is not used."""
    remedy: str
    """What a user can do about it."""


OWN_COMMANDS = {
    "train": (),
    "models": (),
    "plot": (),
    "plugins": ("list", "info", "doctor"),
    "hooks": ("list", "show", "trace"),
    "checkpoint": ("show", "list", "merge"),
    "batch": (),
    "reproduce": (),
    "completion": (),
}
"""The core's own commands, each with its subcommands; no plugin can take the name of one."""

COMMANDS = {
    "record": KnownCommand("simscaleai-plugin-gym", "Record expert demonstrations in simulation."),
    "eval": KnownCommand("simscaleai-plugin-gym", "Evaluate a checkpoint in closed loop."),
    "envs": KnownCommand("simscaleai-plugin-gym", "List the installed environments."),
    "data": KnownCommand("simscaleai-plugin-data", "Look at, check and convert demonstrations."),
    "report": KnownCommand("simscaleai-plugin-report", "Show runs and their results as one page."),
    "plugins.check": KnownCommand(
        "simscaleai-devkit", "Run the conformance checks of a plugin and of each of its components."
    ),
    "plugins.new": KnownCommand(
        "simscaleai-devkit",
        "Write a complete plugin that works and passes its own tests, to be changed into yours.",
    ),
}
"""Commands that a user may be told to install, by name; one with a dot is a subcommand."""


def command_offers(selection: PluginSelection) -> list[Offer]:
    """List the commands of installed plugins without importing any, each name once, sorted."""
    return _sorted_out(selection)[0]


def refused_commands(selection: PluginSelection) -> list[RefusedCommand]:
    """List the commands of installed plugins that cannot be called, such as a second ``eval``."""
    return _sorted_out(selection)[1]


def is_foreign(tokens: Sequence[str], selection: PluginSelection) -> bool:
    """Return whether the arguments name a command that is not of the project's own."""
    if tokens[:1] == ["train"]:
        return False
    ours = {known.distribution for known in COMMANDS.values()}
    names = {*tokens[:1], ".".join(tokens[:2])}
    return any(o.name in names and o.distribution not in ours for o in command_offers(selection))


def _sorted_out(selection: PluginSelection) -> tuple[list[Offer], list[RefusedCommand]]:
    points = metadata.entry_points()
    plugins: dict[str, set[str]] = {}
    for plugin in offers(GROUP, points) if selection.is_limited or selection.required else ():
        plugins.setdefault(plugin.distribution, set()).add(plugin.name)

    def names(offer: Offer) -> set[str]:
        return {offer.distribution, *plugins.get(offer.distribution, ())}

    def order(offer: Offer) -> tuple[object, ...]:
        known = COMMANDS.get(offer.name)
        is_known = known is not None and known.distribution == offer.distribution
        asked = set(map(normalized, selection.required)) & set(map(normalized, names(offer)))
        return offer.name, not is_known, not asked, offer.distribution

    found = [o for o in offers(COMMAND_GROUP, points) if not selection.blocks(*names(o))]
    used: dict[str, Offer] = {}
    refused: list[RefusedCommand] = []
    parents = {*OWN_COMMANDS, *(offer.name for offer in found)}
    for offer in sorted(found, key=order):
        reason = _fault_of(offer.name, parents)
        out = offer
        if not reason and (other := used.setdefault(offer.name, offer)) is not offer:
            reason, out = (
                f"{other.distribution} has a command of this name too, which is used",
                other,
            )
        if reason:
            remedy = f"simscale --no-plugin {out.distribution} ..."
            refused.append(RefusedCommand(offer, reason, remedy))
    return list(used.values()), refused


def _fault_of(name: str, parents: set[str]) -> str:
    """Return why a plugin's command cannot have its name, or nothing."""
    parent, dot, _ = name.partition(".")
    if not _NAME.match(name):
        return "expected a name of letters, digits, '-' and '_', with one dot for a subcommand"
    if name in _own_names():
        return "the core has a command of this name, which is used"
    if dot and parent not in parents:
        return f"there is no command {parent!r} that it could belong to"
    if dot and not OWN_COMMANDS.get(parent, ("any",)):
        return f"the command {parent!r} has no subcommands"
    return ""


def _own_names() -> set[str]:
    inner = {f"{name}.{each}" for name, subs in OWN_COMMANDS.items() for each in subs}
    return {*OWN_COMMANDS, *inner}
