"""The commands, and what becomes of errors: one clear line and an exit status."""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence

from simscaleai_core.cli import interrupts, terminal
from simscaleai_core.cli.known_commands import is_foreign
from simscaleai_core.cli.output import be_quiet, print_text, print_warning
from simscaleai_core.cli.pages import front_page, train_page
from simscaleai_core.errors import SimScaleError
from simscaleai_core.host.selection import select_plugins

_CHOICES = ("SIMSCALE_PLUGIN", "SIMSCALE_PLUGINS")
_USAGE = 2
_EXHAUSTED = ("can't allocate memory", "out of memory", "overflowed with sizes", "Overflow when")


def run(arguments: Sequence[str]) -> int:
    """Run one command.

    Args:
        arguments: What stands after the program's name.

    Returns:
        The exit status: 0 done, 2 the user's mistake, 3 a plugin that was asked for failed, 4 the
        checkpoint directory could not be written, 5 another rank ended, 130 interrupted, 1 a gate
        that was not met.
    """
    kept = {name: os.environ.get(name) for name in _CHOICES}
    be_quiet(False)
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
    try:
        page = front_page(tokens)
        if page is None:
            from simscaleai_core.cli.messages import show_short_messages

            show_short_messages()
            return _foreign_or_own(tokens)
        print_text(page)
    except KeyboardInterrupt:
        interrupts.leave_at_once()
        return interrupts.tell()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), terminal.results().fileno())
        return 0
    except Exception as error:
        _tell_torchrun(error)
        fault = _fault(error)
        if fault is None:
            raise
        if shows_traceback:
            import traceback

            terminal.write(traceback.format_exc(), error=True)
        from simscaleai_core.cli.known_components import hint_for

        hint = hint_for(fault)
        return _fail(f"{fault}\n  {hint}" if hint else str(fault), fault.exit_status)
    return 0


def _foreign_or_own(tokens: Sequence[str]) -> int:
    """Run a command; what is printed while one of the project's own runs is no result of it."""
    if is_foreign(tokens, select_plugins()):
        return _command(tokens)
    with terminal.diverted():
        page = train_page(tokens)
        if page is None:
            return _command(tokens)
        print_text(page)
    return 0


def _command(tokens: Sequence[str]) -> int:
    from cyclopts import CycloptsError

    from simscaleai_core.cli.tree import build_app

    app = build_app(tokens)
    if not gc.isenabled():  # `main` switched it off; who calls `run` otherwise keeps their own way
        gc.freeze()
        gc.enable()
    interrupts.raise_first()
    try:
        result = app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        return _fail(str(error), _USAGE)
    return result if isinstance(result, int) else 0


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
    left = iter(tokens)
    for argument in left:
        name, has_value, value = argument.partition("=")
        if name == "--no-plugin":
            denied.append(value if has_value else next(left, ""))
        elif name == "--plugin" and rest[:1] != ["train"]:  # train has it as a field of its own
            named.append(value if has_value else next(left, ""))
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


def _fault(error: Exception) -> SimScaleError | None:
    """Return what a user can do something about, or None: then it is a fault of the program."""
    if isinstance(error, SimScaleError):
        return error
    if isinstance(error, OSError) and error.filename is not None:
        reason = error.strerror or type(error).__name__
        place = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
        return SimScaleError(f"cannot use {place!r}: {reason}. Check the path and its permissions.")
    text = str(error)
    if isinstance(error, MemoryError) or any(part in text for part in _EXHAUSTED):
        reason = (text.splitlines() or [type(error).__name__])[0].rstrip(". ")
        return SimScaleError(f"too large for this machine: {reason}. Use smaller numbers.")
    return None


def _fail(message: str, status: int) -> int:
    rank = f" (rank {os.environ['RANK']})" if "RANK" in os.environ else ""
    print_warning(f"error{rank}: {message}")
    return status


def _tell_torchrun(error: Exception) -> None:
    """Leave the reason where torchrun's agent looks for the cause of a failed rank."""
    if "TORCHELASTIC_ERROR_FILE" in os.environ:
        from torch.distributed.elastic.multiprocessing.errors import get_error_handler

        get_error_handler().record_exception(error)
