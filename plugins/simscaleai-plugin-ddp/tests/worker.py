"""What a rank runs in the tests: the trainer on dummy data, with a fault where one is asked for."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from simscaleai_core import SimScaleError, TrainConfig, Trainer
from simscaleai_core.builtin.dummy import DummyTrajectoryDataset
from simscaleai_core.plugin import hookimpl


class Policy(torch.nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.Linear(20, 32),
            torch.nn.GELU(),
            torch.nn.Dropout(dropout),
            torch.nn.Linear(32, 4),
        )

    def forward(self, batch):
        error = self.net(batch["observations"]["state"]) - batch["actions"]
        return {"loss": error.square().mean()}


class Fault:
    """Does something bad on one rank, once: not in a process that torchrun restarted."""

    def __init__(self, kind: str, step: int) -> None:
        self.kind, self.step = kind, step

    @hookimpl
    def simscale_on_step_end(self, run):
        first_attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
        if run.step != self.step or not first_attempt:
            return
        if self.kind == "term":
            os.kill(os.getpid(), signal.SIGTERM)
        if self.kind == "all-killed" or (self.kind == "killed" and run.strategy.rank == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "raises" and run.strategy.rank == 1:
            raise ValueError("the sensor of rank 1 is on fire")
        if self.kind.startswith("stopped") and self.kind.endswith(str(run.strategy.rank)):
            os.kill(os.getpid(), signal.SIGSTOP)
        if self.kind == "locked" and run.strategy.rank == 1:
            lock = threading.Lock()
            lock.acquire()
            lock.acquire(timeout=600)
        if self.kind == "busy" and run.strategy.rank == 1:
            until = time.monotonic() + 18
            while time.monotonic() < until:
                sum(range(1000))
        if self.kind == "child" and run.strategy.rank == 1:  # as a compiler does
            burn = "import time\nuntil = time.time() + 18\nwhile time.time() < until: pass"
            subprocess.run([sys.executable, "-c", burn], check=True)

    @hookimpl
    def simscale_on_run_end(self, run):
        if self.kind == "killed-at-the-end" and run.strategy.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def gloo_threads() -> list[str]:
    """Names of this process's threads that work for a gloo group; Linux only."""
    names: list[str] = []
    for _ in range(50):  # one that has ended is listed for a moment
        names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
        if not any("gloo" in name for name in names):
            break
        time.sleep(0.1)
    return [name for name in names if "gloo" in name]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", required=True)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--fault", default="")
    parser.add_argument("--fault-step", type=int, default=0)
    parser.add_argument("--resume", default=None)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--hang", type=float, default=120.0)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--odd-rank", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rank = int(os.environ.get("RANK", "0"))
    lr = 2e-3 if args.odd_rank and rank == 1 else 1e-3
    config = TrainConfig(
        distributed="RANK" in os.environ, backend="gloo", max_steps=40, lr=lr, warmup_steps=5,
        log_every=5, eval_every=10, save_every=8, checkpoint_dir=args.dir, loggers=("jsonl",),
        resume_from=args.resume, accumulate=args.accumulate, keep_last=10,
        options={"ddp": {"hang_timeout_s": args.hang}} if "RANK" in os.environ else {},
    )  # fmt: skip
    loader = DataLoader(
        DummyTrajectoryDataset(250), batch_size=args.batch, shuffle=True, drop_last=True
    )
    held_out = DataLoader(DummyTrajectoryDataset(53, seed=1), batch_size=16)
    listeners = [Fault(args.fault, args.fault_step)] if args.fault else []
    try:
        for _ in range(args.times):
            Trainer(Policy(args.dropout), loader, config, held_out, listeners=listeners).train()
    except SimScaleError as error:
        sys.exit(f"error: {error}")
    if left := [t.name for t in threading.enumerate() if t.name.startswith("simscale")]:
        sys.exit(f"threads of the run outlive it: {left}")
    if left := gloo_threads():  # one that is late would abort the process as it ends
        sys.exit(f"threads outlive the run: {left}")


if __name__ == "__main__":
    main()
