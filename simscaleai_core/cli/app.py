"""The commands, and what becomes of errors: one clear line and an exit status."""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from simscaleai_core.errors import SimScaleError
from simscaleai_core.host.discovery import command_entry_points, core_version
from simscaleai_core.host.selection import select_plugins

_OWN_COMMANDS = {
    "plugins": ("simscaleai_core.cli.plugins:app", "Look at installed plugins and their faults."),
    "models": ("simscaleai_core.cli.components:models", "List the installed models."),
    "hooks": ("simscaleai_core.cli.hooks:app", "List, show and trace the hooks that a run fires."),
    "plot": ("simscaleai_core.cli.plot:plot", "Draw the curves of a run."),
    "checkpoint": ("simscaleai_core.cli.checkpoint:app", "Look into checkpoints."),
}
_CHOICES = ("SIMSCALE_PLUGIN", "SIMSCALE_PLUGINS")
_INTERRUPTED = 130
_USAGE = 2


def run(arguments: Sequence[str]) -> int:
    """Run one command.

    Args:
        arguments: What stands after the program's name.

    Returns:
        The exit status: 0 done, 2 the user's mistake, 3 a plugin that was asked for failed, 4 the
        checkpoint directory could not be written, 130 interrupted, 1 a gate that was not met.
    """
    kept = {name: os.environ.get(name) for name in _CHOICES}
    try:
        return _run(arguments)
    finally:  # the choice of plugins is this command's, whoever called it
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _run(arguments: Sequence[str]) -> int:
    tokens, shows_traceback = _global_options(list(arguments))
    _speak_plainly()
    try:
        app = build_app(tokens)
        result = app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        return _fail(str(error), _USAGE)
    except SimScaleError as error:
        if shows_traceback:
            traceback.print_exc()
        _tell_torchrun(error)
        return _fail(str(error), error.exit_status)
    except Exception as error:
        _tell_torchrun(error)
        raise
    except KeyboardInterrupt:
        return _fail("interrupted", _INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return result if isinstance(result, int) else 0


def build_app(tokens: Sequence[str]) -> App:
    """Build the command tree without importing what a command does.

    Args:
        tokens: The arguments, scanned for the plugins and components whose options ``train`` shows.

    Returns:
        The app.
    """
    app = App(
        name="simscale",
        help="Train robot-learning policies from demonstrations and prove that they work.\n\n"
        "Every command takes --plugin NAME (or FILE.py), --no-plugin NAME, --no-plugins and "
        "--traceback.",
        version=core_version,
        default_parameter=Parameter(negative=()),
        help_format="plaintext",  # rich markup would import a Markdown parser for nothing
        console=Console(soft_wrap=not sys.stdout.isatty()),
    )
    if tokens[:1] == ["train"]:
        from simscaleai_core.cli.train import train_command

        app.command(train_command(tokens[1:]), name="train")
    else:
        app.command(_train_summary, name="train")
    for name, (target, summary) in _OWN_COMMANDS.items():
        app.command(target, name=name, help=summary)
    for point in command_entry_points(select_plugins()):
        owner = point.dist.name if point.dist else "a plugin"
        app.command(point.value, name=point.name, help=_summary(point.name, owner))
    return app


def _train_summary() -> None:
    """Train a policy."""


_FIRST_PARTY_SUMMARIES = {
    ("record", "simscaleai-plugin-sim"): "Record expert demonstrations in simulation.",
    ("eval", "simscaleai-plugin-sim"): "Evaluate a checkpoint in closed loop.",
    ("envs", "simscaleai-plugin-sim"): "List the installed environments.",
    ("data", "simscaleai-plugin-hdf5"): "Look at and check trajectory files.",
}


def _summary(command: str, distribution: str) -> str:
    """Say what a plugin's command does without importing it."""
    known = _FIRST_PARTY_SUMMARIES.get((command, distribution))
    return known or f"From {distribution}; see simscale {command} --help."


def _global_options(tokens: list[str]) -> tuple[list[str], bool]:
    """Return the arguments without the options that every command has, and the traceback flag.

    Plugins are named and blocked through the environment, which also reaches loader workers and
    processes that a command starts.
    """
    rest: list[str] = []
    denied: list[str] = []
    named: list[str] = []
    shows_traceback = False
    allowed = os.environ.get("SIMSCALE_PLUGINS")
    while tokens:
        argument = tokens.pop(0)
        name, has_value, value = argument.partition("=")
        if name == "--no-plugin":
            denied.append(value if has_value else (tokens.pop(0) if tokens else ""))
        elif name == "--plugin" and rest[:1] != ["train"]:  # train has it as a field of its own
            named.append(value if has_value else (tokens.pop(0) if tokens else ""))
        elif argument == "--no-plugins":
            allowed = ""
        elif argument == "--traceback":
            shows_traceback = True
        else:
            rest.append(argument)
    if named:
        before = os.environ.get("SIMSCALE_PLUGIN", "")
        os.environ["SIMSCALE_PLUGIN"] = ",".join([*([before] if before else []), *named])
    denials = [f"-{part}" for name in denied for part in name.split(",") if part]
    if denials or allowed is not None:
        os.environ["SIMSCALE_PLUGINS"] = ",".join([*([allowed] if allowed else []), *denials])
    return rest, shows_traceback


def _speak_plainly() -> None:
    """Send warnings and log records to standard error, one line each."""
    handler = logging.StreamHandler()
    handler.setFormatter(_LowerCase("%(levelname)s: %(message)s"))
    logger = logging.getLogger("simscaleai")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.INFO)

    def show(message: Warning | str, *_: object, **__: object) -> None:
        sys.stderr.write(f"warning: {message}\n")

    warnings.showwarning = show


class _LowerCase(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        record.levelname = record.levelname.lower()
        return super().format(record)


def _fail(message: str, status: int) -> int:
    rank = f" (rank {os.environ['RANK']})" if "RANK" in os.environ else ""
    sys.stderr.write(f"error{rank}: {message}\n")
    return status


def _tell_torchrun(error: Exception) -> None:
    """Leave the reason where torchrun's agent looks for the cause of a failed rank."""
    if "TORCHELASTIC_ERROR_FILE" in os.environ:
        from torch.distributed.elastic.multiprocessing.errors import get_error_handler

        get_error_handler().record_exception(error)
