"""What each of two processes runs in the check of a strategy.

Run by torchrun: ``python -m torch.distributed.run ... -m simscaleai_devkit.strategies.worker``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from simscaleai_core.checkpoint.spread import whole
from simscaleai_core.hookspecs import simscale_on_run_end
from simscaleai_core.run.state import Run
from simscaleai_devkit.support.policies import TinyPolicy
from simscaleai_devkit.support.ranks import weights_file
from simscaleai_devkit.support.runs import loader, train_small


class _Weights:
    """Writes the weights of a rank at the end, those that are spread over the ranks whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @simscale_on_run_end
    def write(self, run: Run) -> None:
        """Write."""
        weights = {name: whole(tensor) for name, tensor in run.policy.state_dict().items()}
        torch.save(weights, weights_file(self._folder, run.strategy.rank))


def main(text: str) -> None:
    """Train one rank's half of each batch and write the weights."""
    torch.set_num_threads(1)
    task = json.loads(text)
    folder = Path(task["folder"])
    fields = {"backend": "gloo", **task["fields"], "batch_size": task["batch"]}
    policy = TinyPolicy(dropout=0.0)
    data = loader(40, task["batch"])
    listeners = (_Weights(folder),)
    train_small(folder, policy=policy, data=data, listeners=listeners, distributed=True, **fields)


if __name__ == "__main__":
    main(sys.argv[1])
