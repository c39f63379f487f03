"""Running a module in two processes under torchrun, for checks of what ranks agree on."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch

from simscaleai_core.contracts import StateDict
from simscaleai_devkit.checks import NotApplicable, expect
from simscaleai_devkit.support.trees import expect_equal

TORCHRUN = (
    *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"),
    "--local-addr=127.0.0.1",
)
"""Command that starts two ranks of what follows it on this machine."""


def free_port() -> str:
    """Return a port of this machine at which ranks can meet."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return str(listening.getsockname()[1])


def weights_file(folder: Path, rank: int) -> Path:
    """Return where a rank saves its weights."""
    return folder / f"rank{rank}.pt"


def weights_of_two_ranks(
    module: str, task: Mapping[str, Any], folder: Path, *, remedy: str, equal_remedy: str
) -> StateDict:
    """Train in two processes and return the weights, which must be equal on both ranks.

    Args:
        module: Module that each process runs with the task as its argument.
        task: What to train, as JSON can hold it.
        folder: Where the ranks save their weights: `weights_file`.
        remedy: One thing to do if a process fails, a sentence.
        equal_remedy: One thing to do if the weights differ, a sentence.

    Returns:
        The weights of rank 0.
    """
    command = [*TORCHRUN, "-m", module, json.dumps(task)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)  # noqa: S603
    lines = [line for line in done.stderr.splitlines() if "rror" in line]
    expect(
        done.returncode == 0,
        "training in two processes",
        expected="to finish",
        found=(lines or [f"status {done.returncode}"])[0][:300],
        remedy=remedy,
    )
    one, two = (torch.load(weights_file(folder, r), weights_only=True) for r in (0, 1))
    expect_equal(one, two, "the weights of two ranks", expected="equality", remedy=equal_remedy)
    weights: StateDict = one
    return weights


def reports_of_two_ranks(
    function: Callable[[Callable[[str, Any], None]], None], folder: Path, *, limit_s: float
) -> list[dict[str, Any]]:
    """Run a function in two forked processes, with the environment that a launcher gives them.

    Args:
        function: Called with a function that reports a plain value under a name.
        folder: Where the reports are kept.
        limit_s: After which time processes that are still running are ended [s].

    Returns:
        What each rank reported; under ``"error"`` what ended it, if it did not return.

    Raises:
        NotApplicable: If this system cannot fork.
    """
    if not hasattr(os, "fork"):
        raise NotApplicable("this system cannot fork a process")
    files, port = [folder / f"rank{rank}.jsonl" for rank in (0, 1)], free_port()
    running = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # threads of libraries that are idle here
        for rank, file in enumerate(files):
            if (pid := os.fork()) == 0:
                _be_rank(function, rank, port, file)
            running[pid] = file
    until = time.monotonic() + limit_s
    while running and time.monotonic() < until:
        for pid in [p for p in running if os.waitpid(p, os.WNOHANG)[0]]:
            del running[pid]
        time.sleep(0.01)
    for pid, file in running.items():
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with file.open("a", encoding="utf-8") as text:
            text.write(json.dumps(["error", f"no answer in {limit_s:g} s"]) + "\n")
    return [
        dict(json.loads(line) for line in file.read_text("utf-8").splitlines()) for file in files
    ]


def _be_rank(function: Callable[..., None], rank: int, port: str, file: Path) -> NoReturn:
    """Run the function as one of two ranks, and end this process."""
    with file.open("w", encoding="utf-8") as text:

        def report(name: str, value: Any) -> None:
            text.write(json.dumps([name, value]) + "\n")
            text.flush()

        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
        os.environ.update(WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        try:
            function(report)
        except BaseException as error:  # noqa: BLE001 - the parent judges it
            report("error", f"{type(error).__name__}: {error}")
        finally:
            os._exit(0)


def largest_gap(one: StateDict, other: StateDict) -> float:
    """Return the largest difference between two sets of weights."""
    return max(float((one[k].float() - v.float()).abs().max()) for k, v in other.items())
