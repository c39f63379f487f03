"""Two ranks that share an evaluation find what one rank finds, and wait for the slower one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from simscaleai_devkit.support.ranks import TORCHRUN
from simscaleai_devkit.support.runs import logged_rows

pytestmark = pytest.mark.slow

MAIN = ("-m", "simscaleai_core")
SLOW_RANK = """\
import sys, time
import torch
from torch.utils.data import DataLoader
from simscaleai_core import TrainConfig, Trainer
from simscaleai_core.builtin.dummy import DummyTrajectoryDataset
from simscaleai_core.contracts import Mean

class Policy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(20, 4)

    def forward(self, batch):
        return {"loss": (self.net(batch["observations"]["state"]) - batch["actions"]).abs().mean()}

def measure(policy):
    rank = torch.distributed.get_rank()
    time.sleep(6.0 * rank)
    return {"rate": Mean(rank, 1)}

config = TrainConfig(max_steps=2, checkpoint_dir=sys.argv[1], log_every=1, device="cpu",
                     backend="gloo", options={"ddp": {"timeout_s": 2.0}})
loader = DataLoader(DummyTrajectoryDataset(64), batch_size=4, shuffle=True)
Trainer(Policy(), loader, config, eval_fn=measure).train()
"""


def _run(*command: str, folder: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_two_ranks_find_what_one_rank_finds(tmp_path: Path) -> None:
    """To the last bit: the weights stay what they were, at a learning rate of nothing."""
    start = (sys.executable, *MAIN)
    record = ("record", "--env", "reach", "--episodes", "30", "--output", "reach.h5")
    _run(*start, *record, folder=tmp_path)
    first = ("--max-steps", "200", "--lr", "1e-3", "--warmup-steps", "20", "--device", "cpu")
    data = ("--dataset", "reach.h5")
    _run(*start, "train", *data, *first, "--checkpoint-dir", "first", folder=tmp_path)
    again = (
        *("train", *data, "--init-from", "first/final.pt", "--max-steps", "1", "--lr", "1e-30"),
        *("--env", "reach", "--closed-loop.episodes", "37", "--device", "cpu"),
    )
    _run(*start, *again, "--checkpoint-dir", "one", folder=tmp_path)
    shared = ("--backend", "gloo", "--checkpoint-dir", "two")
    _run(*TORCHRUN, *MAIN, *again, *shared, folder=tmp_path)
    names = ("eval/success_rate", "eval/mean_return", "eval/mean_length")
    one, two = (
        [{n: row[n] for n in names} for row in logged_rows(tmp_path / folder) if names[0] in row]
        for folder in ("one", "two")
    )
    assert one == two
    assert one[0]["eval/mean_length"] > 0


def test_ranks_wait_for_one_that_evaluates_for_longer_than_they_wait_for_messages(
    tmp_path: Path,
) -> None:
    script = tmp_path / "slow_rank.py"
    script.write_text(SLOW_RANK)
    _run(*TORCHRUN, str(script), "run", folder=tmp_path)
    rates = [r["eval/rate"] for r in logged_rows(tmp_path / "run") if "eval/rate" in r]
    assert rates == [0.5]
