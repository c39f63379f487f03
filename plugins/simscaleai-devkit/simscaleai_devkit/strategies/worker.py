"""What each of two processes runs in the check of a strategy.

Run by torchrun: ``python -m torch.distributed.run ... -m simscaleai_devkit.strategies.worker``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

from simscaleai_devkit.support.policies import TinyPolicy
from simscaleai_devkit.support.ranks import weights_file
from simscaleai_devkit.support.runs import loader, train_small


def main(text: str) -> None:
    """Train one rank's half of each batch and write the weights."""
    torch.set_num_threads(1)
    task = json.loads(text)
    folder = Path(task["folder"])
    fields = {"backend": "gloo", **task["fields"], "batch_size": task["batch"]}
    policy = TinyPolicy(dropout=0.0)
    data = loader(40, task["batch"])
    train_small(folder, policy=policy, data=data, distributed=True, **fields)
    torch.save(policy.state_dict(), weights_file(folder, int(os.environ["RANK"])))


if __name__ == "__main__":
    main(sys.argv[1])
