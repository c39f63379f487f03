"""The command tree, built without importing what a command does."""

from __future__ import annotations

import logging
import pkgutil
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from cyclopts import App, Parameter

from simscaleai_core.cli import terminal
from simscaleai_core.cli.known_commands import command_offers, refused_commands
from simscaleai_core.cli.pages import ABOUT, Command, asks_for_help, commands, refuse_missing
from simscaleai_core.errors import ConfigError, PluginError, reason_of
from simscaleai_core.host.entry_points import core_version
from simscaleai_core.host.selection import select_plugins

if TYPE_CHECKING:
    from cyclopts import Argument

logger = logging.getLogger("simscaleai")


def build_app(tokens: Sequence[str], *, is_whole: bool = False) -> App:
    """Build the command tree without importing what a command does.

    Args:
        tokens: The arguments, scanned for the plugins and components whose options ``train`` shows.
        is_whole: Whether every command is imported, not only the one that is named.

    Returns:
        The app.

    Raises:
        SimScaleError: If they name a command that is not there or cannot be imported.
    """
    app = App(
        name="simscale",
        help=ABOUT,
        version=core_version,
        default_parameter=Parameter(negative=()),
        suppress_keyboard_interrupt=False,  # `app` says it in one line
        help_format="plaintext",  # rich markup would import a Markdown parser for nothing
        config=_refuse_value_and_parts,
    )
    if tokens[:1] == ["train"]:
        from simscaleai_core.cli.train import train_command

        app.command(train_command(tokens[1:]), name="train")
    else:
        app.command(_train_summary, name="train")
    found, subcommands = commands(), []
    refuse_missing(tokens, found)
    _warn_of_refused(tokens)
    for command in found:
        if "." in command.name:
            subcommands.append(command)
        else:
            is_named = is_whole or command.name in tokens[:1]
            target = _importable(command) if is_named else _unnamed
            app.command(target, name=command.name, help=command.summary)
    for command in subcommands:
        parent, _, name = command.name.partition(".")
        if tokens[:1] == [parent] and parent in app and name not in app[parent]:
            target = _importable(command) if name in tokens[1:2] else command.target
            app[parent].command(target, name=name, help=command.summary)
    is_group = len(tokens) == 1 and tokens[0] in app and app[tokens[0]].default_command is None
    if asks_for_help(tokens) or is_group:
        _print_plainly(app)
    return app


def _importable(command: Command) -> str:
    """Return what a command runs, which can be imported.

    Raises:
        PluginError: If it is a plugin's and cannot be imported.
    """  # noqa: DOC501 - a fault of the core's own command is raised again
    try:
        pkgutil.resolve_name(command.target)
    except (Exception, SystemExit) as error:
        offered = {o.name: o.distribution for o in command_offers(select_plugins())}
        if (source := offered.get(command.name)) is None:
            raise  # one of the core's own
        raise PluginError(
            f"the command {command.name.replace('.', ' ')!r} of {source} cannot be imported from "
            f"{command.target}: {reason_of(error)}. Fix it, or keep it out: --no-plugin {source}.",
            plugin=source,
        ) from error
    return command.target


def _refuse_value_and_parts(_app: object, _commands: object, arguments: Iterable[Argument]) -> None:
    """Check that no option of a table is given both whole and in parts, which the parser cannot.

    Raises:
        ConfigError: If one is.
    """
    for argument in arguments:
        given = [token.keys for token in argument.tokens]
        for keys in given:
            if whole := next((k for k in given if k and k == keys[: len(k)] and k != keys), None):
                one, other = (".".join((argument.name, *each)) for each in (whole, keys))
                raise ConfigError(
                    f"{one} and {other}: expected one of them, got both. Leave one out."
                )


def _unnamed() -> None:
    """Stand for a command that the arguments do not name."""


def _warn_of_refused(tokens: Sequence[str]) -> None:
    """Say which commands of plugins are not the one that the arguments name."""
    for offer, reason, remedy in refused_commands(select_plugins()):
        if offer.name in {".".join(tokens[:2]), *tokens[:1]}:
            logger.warning(
                "the command %r of %s is not used: %s. To decide: %s",
                offer.name.replace(".", " "), offer.distribution, reason, remedy,
            )  # fmt: skip


def _train_summary() -> None:
    """Train a policy."""


def _print_plainly(app: App) -> None:
    """Make help look like our own pages; imports what prints it."""
    from rich.console import Console

    from simscaleai_core.cli.output import Screen

    app.help_formatter = "plain"
    app.console = Console(file=Screen(), soft_wrap=not terminal.results().isatty())  # type: ignore[arg-type]
