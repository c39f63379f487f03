"""What a rank runs in the tests: the tiny policy on dummy data, with a fault where asked for one."""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from simscaleai_devkit.support.policies import TinyPolicy
from simscaleai_devkit.support.trees import edge_case_tree
from torch.utils.data import DataLoader

from simscaleai_core import SimScaleError, TrainConfig, Trainer
from simscaleai_core.builtin.dummy import DummyTrajectoryDataset
from simscaleai_core.plugin import hookimpl


class Fault:
    """Does something bad on one rank, and has state that differs between the ranks."""

    def __init__(self, kind: str, step: int, rank: int, at_rank: int) -> None:
        self.kind, self.step, self.rank = kind, step, rank
        self.is_here = rank == at_rank
        self.restored: dict[str, Any] = {}

    @hookimpl
    def simscale_on_run_setup(self, run: Any) -> None:
        run.register_state("fault", self)
        if self.kind == "late" and self.is_here:
            _look_slowly()
        if self.kind == "no-room" and self.is_here:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))

    @hookimpl
    def simscale_on_step_end(self, run: Any) -> None:
        if self.kind == "killed" and run.step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)

    def state_dict(self) -> dict[str, Any]:
        if self.kind == "not-plain" and self.is_here:
            return {"x": object()}
        tree = edge_case_tree()
        del tree["kinds"]  # torch 2.13 broadcasts no uint16, uint64 and float8 tensors
        mine = {f"only_{self.rank}": torch.full((5,), float(self.rank))}
        return {**tree, "rank": self.rank, "w": torch.full((99,), float(self.rank)), **mine}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert (state["rank"], float(state["w"].sum())) == (0, 0.0), "rank 0's state counts"
        assert "only_1" not in state


def _look_slowly() -> None:
    """Let time pass after each look at an unfinished checkpoint, in which the others go on."""

    def is_dir(self: Path) -> bool:
        found = looked(self)
        if ".tmp-" in self.name:
            time.sleep(0.3)
        return found

    looked = Path.is_dir
    Path.is_dir = is_dir  # type: ignore[method-assign]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", required=True)
    parser.add_argument("--fault", default="")
    parser.add_argument("--fault-step", type=int, default=0)
    parser.add_argument("--fault-rank", type=int, default=1)
    parser.add_argument("--resume", default=None)
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = TrainConfig(
        distributed="RANK" in os.environ, backend="gloo", max_steps=24, lr=1e-2, warmup_steps=5,
        log_every=4, save_every=8, eval_every=8, checkpoint_dir=args.dir, loggers=("console",),
        resume_from=args.resume, keep_last=2, device="cpu", checkpoint_backend="dcp",
        batch_size=4, options={"dcp": {"timeout_s": 60.0}},
    )  # fmt: skip
    data = DummyTrajectoryDataset(64, obs_dim=6, action_dim=2)
    held_out = DataLoader(DummyTrajectoryDataset(16, obs_dim=6, action_dim=2, seed=1), batch_size=8)
    loader = DataLoader(data, batch_size=4, shuffle=True)
    fault = Fault(args.fault, args.fault_step, int(os.environ.get("RANK", "0")), args.fault_rank)
    try:
        Trainer(TinyPolicy(64), loader, config, held_out, listeners=[fault]).train()
    except SimScaleError as error:
        sys.stderr.write(f"error on rank {fault.rank}: {error}\n")
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
