"""``simscale hooks trace``: run a command and show which listeners each hook called."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from attrs import define
from cyclopts import Parameter

from simscaleai_core.cli.output import print_json, print_table
from simscaleai_core.errors import ConfigError
from simscaleai_core.host.trace import VARIABLE


@define
class ListenerCalls:
    """One listener of one hook over a whole command."""

    hook: str
    """The hook."""
    listener: str
    """The listener; ``-`` if there is none."""
    calls: int = 0
    """Number of calls."""
    total_us: float = 0.0
    """Time in all of them [us]."""
    first_step: str = ""
    """Step of the first call."""


def trace(
    *command: Annotated[str, Parameter(allow_leading_hyphen=True)], json: bool = False
) -> int:
    """Run a command, such as ``-- train --max-steps 20``, and show every hook that it fired.

    Args:
        command: The command, after ``--``.
        json: Print one JSON object with the hooks; the command's own output goes to standard error.

    Returns:
        The command's exit status.

    Raises:
        ConfigError: If there is no command.
    """
    if not command:
        raise ConfigError(
            "there is nothing to trace: expected a command after '--', such as "
            "simscale hooks trace -- train --max-steps 20"
        )
    with tempfile.TemporaryDirectory() as directory:
        record = Path(directory) / "trace"
        record.touch()
        status = _run(command, record)
        found = summarise(record.read_text(encoding="utf-8").splitlines())
    if json:
        print_json({"command": list(command), "exit_status": status, "hooks": _rows(found)})
    else:
        rows = [tuple(row.values()) for row in _rows(found)]
        headers = ("hook", "listener", "calls", "from step", "mean [us]", "total [ms]")
        print_table(rows, headers=headers, title="hooks, in the order in which they first came")
    return status


def summarise(lines: Iterable[str]) -> list[ListenerCalls]:
    """Add up a record of `simscaleai_core.host.trace`, in the order of first calls.

    Args:
        lines: Lines of the record.

    Returns:
        One entry per hook and listener.

    Example:
        >>> lines = [chr(9).join((step, "on_step", "ema", "3.0")) for step in "12"]
        >>> [entry] = summarise(lines)
        >>> entry.calls, entry.total_us, entry.first_step
        (2, 6.0, '1')
    """
    entries: dict[tuple[str, str], ListenerCalls] = {}
    for line in lines:
        step, hook, listener, micros = line.split("\t")
        entry = entries.setdefault((hook, listener), ListenerCalls(hook, listener, first_step=step))
        entry.calls += 1
        entry.total_us += float(micros)
    return list(entries.values())


def _run(command: tuple[str, ...], record: Path) -> int:
    """Run the command in a process of its own, so that its output and its plugins stay there."""
    import subprocess
    import sys

    environ = {**os.environ, VARIABLE: str(record)}
    arguments = [sys.executable, "-m", "simscaleai_core", *command]
    return subprocess.run(arguments, env=environ, stdout=sys.stderr, check=False).returncode  # noqa: S603 - what the user asked to run


def _rows(found: Iterable[ListenerCalls]) -> list[dict[str, Any]]:
    return [
        {
            "hook": h.hook,
            "listener": h.listener,
            "calls": h.calls,
            "first_step": h.first_step,
            "mean_us": round(h.total_us / h.calls, 1),
            "total_ms": round(h.total_us / 1e3, 2),
        }
        for h in found
    ]
