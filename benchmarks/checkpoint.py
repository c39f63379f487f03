"""How long the training loop stands still for a checkpoint: ours in the background, `torch.save`.

A policy of 50 million parameters with AdamW's state (605 MB). Contenders take turns within one
process; each saves the same tree to the same directory. Ratios are to `torch.save` of the round.

Run: ``python benchmarks/checkpoint.py [--rounds 5] [--parameters 50_000_000]``
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from simscaleai_core.builtin.pt import PtBackend
from simscaleai_core.checkpoint.background import Saver
from simscaleai_core.checkpoint.store import CheckpointStore


def training_state(parameters: int) -> dict[str, object]:
    """Return a policy's weights and its optimiser's state after one step."""
    width = int((parameters / 4) ** 0.5)
    policy = nn.Sequential(*(nn.Linear(width, width) for _ in range(4)))
    optimizer = torch.optim.AdamW(policy.parameters(), fused=True)
    policy(torch.zeros(1, width)).sum().backward()
    optimizer.step()
    return {
        "model_state_dict": policy.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
    }


def measure(rounds: int, parameters: int) -> dict[str, list[float]]:
    """Return milliseconds per round of each contender."""
    tree = training_state(parameters)
    found: dict[str, list[float]] = {"torch.save": [], "stall": [], "until durable": []}
    with tempfile.TemporaryDirectory() as directory:
        store = CheckpointStore(Path(directory), PtBackend())
        saver = Saver(store)
        saver.submit(["warm"], tree, step=0)  # the buffers are made by the first save
        saver.wait()
        for number in range(rounds):
            os.sync()  # each contender starts with a disk that has nothing left to write
            started = time.perf_counter()
            torch.save(tree, Path(directory) / "plain.pt")
            found["torch.save"].append(1e3 * (time.perf_counter() - started))
            os.sync()
            started = time.perf_counter()
            saver.submit([f"step_{number + 1}"], tree, step=number + 1)
            found["stall"].append(1e3 * (time.perf_counter() - started))
            saver.wait()
            found["until durable"].append(1e3 * (time.perf_counter() - started))
    return found


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parameters", type=int, default=50_000_000)
    args = parser.parse_args()
    found = measure(args.rounds, args.parameters)
    ratios = {
        name: [round(a / b, 3) for a, b in zip(values, found["torch.save"], strict=True)]
        for name, values in found.items()
    }
    report = {
        name: {
            "median_ms": round(statistics.median(values)),
            "ratio_to_torch_save": statistics.median(ratios[name]),
            "ratios": ratios[name],
        }
        for name, values in found.items()
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
