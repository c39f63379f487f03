"""Runs of the command in forked children: an interpreter imports everything once for all of them.

The interpreter of a venv executes this file and is asked in JSON, a request and an answer a line.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from typing import Any

HEAVY = (
    "simscaleai_core.cli.train", "simscaleai_core.cli.from_config", "simscaleai_core.trainer",
    "torch._dynamo", "torch.distributed.nn", "torch.nn.parallel", "peft",
)  # fmt: skip
LIMIT_S = 120


def run(arguments: list[str], cwd: str, ranks: int) -> dict[str, Any]:
    """Run the command on some ranks; return its exit statuses and what it printed."""
    with tempfile.TemporaryFile("w+") as output:
        port = _free_port()
        children = [
            _fork(arguments, cwd, output.fileno(), _place(r, ranks, port)) for r in range(ranks)
        ]
        statuses = _wait(children)
        output.seek(0)
        return {"statuses": statuses, "output": output.read()}


def _place(rank: int, ranks: int, port: int) -> dict[str, str]:
    """What torchrun says to a rank; nothing for one rank."""
    here = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
    place = {**here, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return {name: str(value) for name, value in place.items()} if ranks > 1 else {}


def _fork(arguments: list[str], cwd: str, output: int, environment: dict[str, str]) -> int:
    if child := os.fork():
        return child
    status = 70
    try:
        from simscaleai_core.cli.app import run as run_command

        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(cwd)
        os.environ.update(environment)
        try:
            status = run_command(arguments)
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _wait(children: list[int]) -> list[int]:
    """Wait for every rank; once one was killed, or the time is over, the others are, too."""
    statuses: dict[int, int] = {}
    deadline = time.monotonic() + LIMIT_S
    while running := [child for child in children if child not in statuses]:
        for child in running:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                statuses[child] = os.waitstatus_to_exitcode(status)
        if min(statuses.values(), default=0) < 0 or time.monotonic() > deadline:
            for child in [child for child in children if child not in statuses]:
                os.kill(child, signal.SIGKILL)
        time.sleep(0.005)
    return [statuses[child] for child in children]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def main() -> None:
    """Answer requests until there are no more."""
    for name in HEAVY:
        with suppress(ImportError):  # not everything is in every venv
            importlib.import_module(name)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(run(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
