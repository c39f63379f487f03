"""The two pages that have to come at once: the list of commands, and the flags of ``train``.

They are written without the command line's library, whose import alone takes longer than they may.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from simscaleai_core.cli import terminal
from simscaleai_core.cli.known_commands import COMMANDS, command_offers
from simscaleai_core.errors import ConfigError
from simscaleai_core.host.entry_points import core_version
from simscaleai_core.host.selection import select_plugins

ABOUT = (
    "Train robot-learning policies from demonstrations and prove that they work.\n\n"
    "Every command takes --plugin NAME (or FILE.py), --no-plugin NAME, --no-plugins and "
    "--traceback."
)
_METAVARS = {int: "INT", float: "FLOAT", Path: "PATH", bool: "", dict: ""}
_COLUMN = 16  # characters; where all labels are as short, their texts are aligned

Entry = tuple[str, str]
"""What a user writes, and what it does."""


class Command(NamedTuple):
    """One command."""

    name: str
    """What follows ``simscale``; a subcommand follows its command after a dot."""
    target: str
    """Where it is, ``"module:attribute"``."""
    summary: str
    """One line of help."""


_OWN_COMMANDS = (
    Command(
        "plugins", "simscaleai_core.cli.plugins:app", "Look at installed plugins and their faults."
    ),
    Command("models", "simscaleai_core.cli.components:models", "List the installed models."),
    Command(
        "hooks", "simscaleai_core.cli.hooks:app", "List, show and trace the hooks that a run fires."
    ),
    Command("plot", "simscaleai_core.cli.plot:plot", "Draw the curves of a run."),
    Command("checkpoint", "simscaleai_core.cli.checkpoint:app", "Look into checkpoints."),
    Command("batch", "simscaleai_core.cli.batch:batch", "Show the samples of a step of a run."),
    Command(
        "reproduce",
        "simscaleai_core.cli.reproduce:reproduce",
        "Train to a checkpoint again and compare.",
    ),
    Command(
        "completion",
        "simscaleai_core.cli.completion:completion",
        "Print what makes a shell complete commands and options.",
    ),
)


def commands() -> list[Command]:
    """List the commands beside ``train``: the core's, then those of plugins by their metadata."""
    found = {command.name: command for command in _OWN_COMMANDS}
    for offer in command_offers(select_plugins()):
        summary = _summary(offer.name, offer.distribution)
        found.setdefault(offer.name, Command(offer.name, offer.target, summary))
    return list(found.values())


def refuse_missing(tokens: Sequence[str], found: Iterable[Command]) -> None:
    """Refuse a command that one of the project's own distributions brings and that is not there.

    Raises:
        ConfigError: If the arguments begin with one; it names the distribution.
    """
    name = next((n for n in (".".join(tokens[:2]), *tokens[:1]) if n in COMMANDS), None)
    if name is None or any(command.name == name for command in found):
        return
    distribution = COMMANDS[name].distribution
    raise ConfigError(
        f"'simscale {name.replace('.', ' ')}' comes with {distribution}, which is not installed or "
        f"kept out. Install it: pip install {distribution}"
    )


def asks_for_help(tokens: Sequence[str]) -> bool:
    """Return whether help is among the arguments."""
    return not {"--help", "-h"}.isdisjoint(tokens)


def front_page(tokens: Sequence[str]) -> str | None:
    """Return the list of commands or the version, if that is what the arguments ask for."""
    if list(tokens) == ["--version"]:
        return core_version()
    if list(tokens) not in ([], ["--help"], ["-h"]):
        return None
    found = commands()
    top = [(c.name, c.summary) for c in found if "." not in c.name]
    missing: dict[str, list[str]] = {}
    for name in sorted(COMMANDS.keys() - {c.name for c in found}):
        missing.setdefault(COMMANDS[name].distribution, []).append(name.replace(".", " "))
    options = [
        ("--help, -h", "Show this page; after a command, the command's."),
        ("--version", "Show the version."),
    ]
    sections: dict[str, list[Entry]] = {"Commands": sorted([("train", "Train a policy."), *top])}
    if missing:
        sections["Not installed"] = [
            (", ".join(names), f"pip install {distribution}")
            for distribution, names in missing.items()
        ]
    sections["Options"] = options
    return _page("Usage: simscale COMMAND", ABOUT, sections)


def train_page(tokens: Sequence[str]) -> str | None:
    """Return the flags of ``train``, if that is what the arguments ask for.

    Raises:
        SimScaleError: If they name a plugin that cannot be loaded.
    """
    if tokens[0] != "train" or not asks_for_help(tokens):
        return None
    from simscaleai_core.cli.flags import SUMMARY, read_choice

    sections: dict[str, list[Entry]] = {}
    for flag in read_choice(tokens[1:]).flags:
        written = ", ".join(filter(None, [*flag.names, flag.negative]))
        default = "" if flag.default is None else f"[default: {flag.default}]"
        entry = (f"{written} {_metavar(flag.kind)}".rstrip(), f"{flag.text} {default}".rstrip())
        sections.setdefault(flag.group or "Parameters", []).append(entry)
    return _page("Usage: simscale train [OPTIONS]", SUMMARY, sections)


def _page(usage: str, about: str, sections: Mapping[str, Sequence[Entry]]) -> str:
    parts = [usage, "\n".join(_wrapped(line) for line in about.splitlines())]
    for title, entries in sections.items():
        parts.append("\n".join([f"{title}:", *_lines(entries)]))
    return "\n\n".join(parts)


def _lines(entries: Sequence[Entry]) -> Iterable[str]:
    column = max(len(label) for label, _ in entries)
    for label, text in entries:
        is_short = column <= _COLUMN
        line = f"{label:<{column}}  {text}" if is_short else f"{label}: {text}"
        yield _wrapped(f"  {line}", indent="      ")


def _wrapped(text: str, indent: str = "") -> str:
    """Wrap text to the terminal; where there is none it is left alone."""
    if not terminal.results().isatty():
        return text
    import textwrap

    width = shutil.get_terminal_size().columns
    return textwrap.fill(text, width, subsequent_indent=indent, break_on_hyphens=False)


def _metavar(kind: Any) -> str:
    return _METAVARS.get(getattr(kind, "__origin__", kind), "STR")


def _summary(command: str, distribution: str) -> str:
    """Say what a plugin's command does without importing it."""
    known = COMMANDS.get(command)
    if known and known.distribution == distribution:
        return known.summary
    return f"From {distribution}; see simscale {command.replace('.', ' ')} --help."
