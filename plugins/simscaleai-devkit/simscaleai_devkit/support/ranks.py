"""Running a module in two processes under torchrun, for checks of what ranks agree on."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from simscaleai_core.contracts import StateDict
from simscaleai_devkit.checks import expect
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


def largest_gap(one: StateDict, other: StateDict) -> float:
    """Return the largest difference between two sets of weights."""
    return max(float((one[k].float() - v.float()).abs().max()) for k, v in other.items())
