"""Loader workers end with their run, however early that is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

KILLED_AT_ONCE = """
import os, signal
import torch
from torch.utils.data import DataLoader, Dataset
from simscaleai_core.data.feed import build_feed

class Data(Dataset):
    def __len__(self):
        return 8
    def __getitem__(self, index):
        return {"observations": {"state": torch.zeros(3)}, "actions": torch.zeros(2)}

def kill_the_run(number):
    with open(f"worker-{number}", "w") as file:
        file.write(str(os.getpid()))
    os.kill(os.getppid(), signal.SIGKILL)

loader = DataLoader(Data(), batch_size=4, num_workers=1, worker_init_fn=kill_the_run)
next(build_feed(loader, seed=0).batches(0))
"""


def test_a_worker_of_a_run_that_is_already_dead_ends(tmp_path: Path) -> None:
    """torch's own watch takes whoever is the parent when it begins, which may be init by then."""
    run = subprocess.run(
        [sys.executable, "-c", KILLED_AT_ONCE], cwd=tmp_path, timeout=60, check=False
    )
    assert run.returncode == -signal.SIGKILL
    worker = Path("/proc") / (tmp_path / "worker-0").read_text()
    deadline = time.monotonic() + 10
    while worker.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not worker.exists()
