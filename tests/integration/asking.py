"""Asking an interpreter that has imported everything to run the command; see `forked_runs`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Ask = Callable[..., tuple[list[int], str]]


def forking(python: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    """Start the interpreter that runs the command; a context manager ends it."""
    script = str(Path(__file__).with_name("forked_runs.py"))
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([str(python), script], env=environment, **pipes)


def asking(process: subprocess.Popen[str]) -> Ask:
    """Return what asks it to run the command: its exit statuses, and what it printed."""
    assert process.stdin is not None and process.stdout is not None
    source, sink = process.stdout, process.stdin
    assert source.readline() == "ready\n"

    def ask(*arguments: object, cwd: Path, ranks: int = 1) -> tuple[list[int], str]:
        cwd.mkdir(parents=True, exist_ok=True)
        request = {"arguments": [*map(str, arguments)], "cwd": str(cwd), "ranks": ranks}
        sink.write(json.dumps(request) + "\n")
        sink.flush()
        answer = json.loads(source.readline())
        return answer["statuses"], answer["output"]

    return ask


def done(answer: tuple[list[int], str]) -> str:
    """Return what a command printed that must have ended well."""
    statuses, output = answer
    assert not any(statuses), output
    assert "Traceback" not in output
    return output


def refused(answer: tuple[list[int], str]) -> str:
    """Return the one line of a command that must have been refused."""
    statuses, output = answer
    assert statuses == [2], output
    (line,) = (line for line in output.splitlines() if line.startswith("error"))
    assert output.rstrip().endswith(line), output
    return line


def tree(folder: Path, file: str = "final.pt") -> dict[str, Any]:
    """Return the tree of a run's checkpoint."""
    found: dict[str, Any] = torch.load(folder / "checkpoints" / file, weights_only=True)
    return found


def rows(folder: Path) -> list[dict[str, Any]]:
    """Logged rows without what depends on the clock."""
    found = map(json.loads, (folder / "checkpoints" / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in row.items() if not k.startswith("perf/")} for row in found]
