"""The command tree, built without importing what a command does."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cyclopts import App, Parameter

from simscaleai_core.cli.pages import ABOUT, asks_for_help, commands, refuse_missing
from simscaleai_core.host.entry_points import core_version


def build_app(tokens: Sequence[str]) -> App:
    """Build the command tree without importing what a command does.

    Args:
        tokens: The arguments, scanned for the plugins and components whose options ``train`` shows.

    Returns:
        The app.

    Raises:
        ConfigError: If they name a command of a distribution that is not there.
    """
    app = App(
        name="simscale",
        help=ABOUT,
        version=core_version,
        default_parameter=Parameter(negative=()),
        suppress_keyboard_interrupt=False,  # `app` says it in one line
        help_format="plaintext",  # rich markup would import a Markdown parser for nothing
    )
    if asks_for_help(tokens):
        _print_plainly(app)
    if tokens[:1] == ["train"]:
        from simscaleai_core.cli.train import train_command

        app.command(train_command(tokens[1:]), name="train")
    else:
        app.command(_train_summary, name="train")
    found, subcommands = commands(), []
    refuse_missing(tokens, found)
    for command in found:
        if "." in command.name:
            subcommands.append(command)
        else:
            app.command(command.target, name=command.name, help=command.summary)
    for command in subcommands:
        parent, _, name = command.name.partition(".")
        if tokens[:1] == [parent] and parent in app and name not in app[parent]:
            app[parent].command(command.target, name=name, help=command.summary)
    return app


def _train_summary() -> None:
    """Train a policy."""


def _print_plainly(app: App) -> None:
    """Make help look like our own pages; imports what prints it."""
    from rich.console import Console

    from simscaleai_core.cli.output import Screen

    app.help_formatter = "plain"
    app.console = Console(file=Screen(), soft_wrap=not sys.stdout.isatty())  # type: ignore[arg-type]
