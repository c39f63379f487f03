"""What each of two processes runs in the check of a model under `DistributedDataParallel`.

Run by torchrun: ``python -m torch.distributed.run ... -m simscaleai_devkit.models.worker TASK``.
"""

from __future__ import annotations

import copy
import gc
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.nn  # noqa: F401 - its defaults would keep a group that is there before it
from attrs import frozen
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from simscaleai_core.contracts import StateDict
from simscaleai_core.host.facade import Host
from simscaleai_core.host.selection import select_plugins
from simscaleai_devkit.models.driver import dataset, loss_of, make
from simscaleai_devkit.subject import Subject
from simscaleai_devkit.support.ranks import weights_file
from simscaleai_devkit.support.synthetic import SyntheticDataset

_STEPS, _BATCH = 4, 8


@frozen(kw_only=True)
class Task:
    """What to train."""

    component: str
    """Id of the model."""
    options: Mapping[str, Any]
    """Its options."""
    data: Mapping[str, Any]
    """Keywords of the synthetic data that differ."""
    folder: str
    """Where each rank writes its weights."""

    def policy(self) -> tuple[nn.Module, SyntheticDataset]:
        """Build the policy and its data."""
        host = Host(select_plugins())
        suite = _Suite(self)
        component = host.component("model", self.component)
        subject = Subject(suite=suite, component=component, host=host, folder=Path(self.folder))
        data = dataset(subject)
        return make(subject, data), data


class _Suite:
    def __init__(self, task: Task) -> None:
        self.options, self.data = task.options, task.data
        self.is_generic = False
        self.config: Mapping[str, Any] = {}


def train_alone(task: Task) -> tuple[StateDict, bool]:
    """Train in this process on the batches of both ranks.

    Args:
        task: What to train.

    Returns:
        The weights, and whether the policy draws random numbers in training.
    """
    policy, data = task.policy()
    policy.train()
    batch = data.batch(_BATCH)
    probed = copy.deepcopy(policy)  # a forward pass may move its buffers
    losses = {float(loss_of(probed, batch, seed=s).detach()) for s in range(3)}
    _train(policy, policy, [batch] * _STEPS)
    return dict(policy.state_dict()), len(losses) > 1


def _train(policy: nn.Module, module: nn.Module, batches: list[Mapping[str, Any]]) -> None:
    parameters = [p for p in policy.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=1e-2)
    for step, batch in enumerate(batches):
        optimizer.zero_grad()
        torch.autograd.backward(loss_of(module, batch, seed=step))
        optimizer.step()


def _half(node: Any, rank: int) -> Any:
    if isinstance(node, Mapping):
        return {k: _half(v, rank) for k, v in node.items()}
    size = len(node) // 2
    part: Tensor | list[str] = node[rank * size : (rank + 1) * size]
    return part


def main(text: str) -> None:
    """Train one rank's half of each batch and write the weights."""
    torch.set_num_threads(1)
    task, rank = Task(**json.loads(text)), int(os.environ["RANK"])
    dist.init_process_group("gloo")
    policy, data = task.policy()
    policy.train()
    batch = _half(data.batch(_BATCH), rank)
    _train(policy, DistributedDataParallel(policy), [batch] * _STEPS)
    torch.save(policy.state_dict(), weights_file(Path(task.folder), rank))
    dist.barrier()
    # a thread of gloo that outlives the interpreter aborts the process; it ends with the group,
    # and the group with what keeps it: DistributedDataParallel is part of a cycle
    gc.collect()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
