"""Commands of plugins: the installed ones, and those that our own distributions would bring."""

from __future__ import annotations

from importlib import metadata
from typing import NamedTuple

from simscaleai_core.host.entry_points import GROUP, Offer, offers
from simscaleai_core.host.selection import PluginSelection

COMMAND_GROUP = "simscaleai.commands"
"""Entry-point group of commands; ``plugins.new`` is ``simscale plugins new``."""


class KnownCommand(NamedTuple):
    """A command of one of the project's own distributions."""

    distribution: str
    """The distribution that brings it."""
    summary: str
    """One line of help."""


COMMANDS = {
    "record": KnownCommand("simscaleai-plugin-gym", "Record expert demonstrations in simulation."),
    "eval": KnownCommand("simscaleai-plugin-gym", "Evaluate a checkpoint in closed loop."),
    "envs": KnownCommand("simscaleai-plugin-gym", "List the installed environments."),
    "data": KnownCommand("simscaleai-plugin-hdf5", "Look at and check trajectory files."),
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
    """List the commands of installed plugins without importing any, sorted by name."""
    points = metadata.entry_points()
    plugins: dict[str, set[str]] = {}
    for plugin in offers(GROUP, points) if selection.is_limited else ():
        plugins.setdefault(plugin.distribution, set()).add(plugin.name)
    by_name: dict[str, Offer] = {}
    for offer in offers(COMMAND_GROUP, points):
        if not selection.blocks(offer.distribution, *plugins.get(offer.distribution, ())):
            by_name.setdefault(offer.name, offer)
    return list(by_name.values())
