"""What each of two processes runs in the check of strategies.

Run by torchrun: ``python -m torch.distributed.run ... -m simscaleai_core.testing.strategy_worker``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

from simscaleai_core.assembly import Trainer
from simscaleai_core.config import TrainConfig
from simscaleai_core.testing.runs import TinyPolicy, loader
from simscaleai_core.testing.subject import SMALL


def main(text: str) -> None:
    """Train one rank's half of each batch and write the weights."""
    torch.set_num_threads(1)
    task = json.loads(text)
    folder = Path(task["folder"])
    fields = {"backend": "gloo", **SMALL, **task["fields"], "batch_size": task["batch"]}
    config = TrainConfig(**{**fields, "checkpoint_dir": str(folder), "distributed": True})
    policy = TinyPolicy(dropout=0.0)
    Trainer(policy, loader(40, task["batch"]), config).train()
    torch.save(policy.state_dict(), folder / f"rank{os.environ['RANK']}.pt")


if __name__ == "__main__":
    main(sys.argv[1])
