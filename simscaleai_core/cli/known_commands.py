"""Commands that the project's own distributions bring: for telling a user what to install."""

from __future__ import annotations

from typing import NamedTuple


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
"""Commands by name; one with a dot is a subcommand."""
