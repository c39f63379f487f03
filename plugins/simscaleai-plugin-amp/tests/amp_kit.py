"""Tiny runs in mixed precision on a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from simscaleai_core import TrainConfig, Trainer
from simscaleai_core.builtin.dummy import DummyTrajectoryDataset
from simscaleai_core.builtin.pt import PtBackend
from simscaleai_core.checkpoints import read_checkpoint
from simscaleai_core.plugin import hookimpl

ON_CPU = {"amp": {"on_cpu": True}}


class Probed(nn.Module):
    """A small network that remembers in which format its layers computed."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 2))
        self.seen: set[torch.dtype] = set()

    def forward(self, batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        out = self.net(batch["observations"]["state"])
        if self.training:
            self.seen.add(out.dtype)
        return {"loss": (out - batch["actions"]).square().mean()}


class Watcher:
    """Makes the loss infinite at one step, or vetoes it, and writes down each step."""

    def __init__(self, *, bad: int | None = None, veto: int | None = None) -> None:
        self.bad, self.veto = bad, veto
        self.rates: list[float] = []
        self.weights: list[torch.Tensor] = []
        self.scales: list[float] = []
        self.updates: list[int] = []

    @hookimpl
    def simscale_transform_batch(self, run: Any, batch: Any) -> Any:
        self.rates.append(run.optimizer.param_groups[0]["lr"])
        if run.step == self.bad:
            return {**batch, "actions": batch["actions"] * float("inf")}
        return batch

    @hookimpl
    def simscale_on_grads_ready(self, run: Any) -> bool:
        return run.step == self.veto

    @hookimpl
    def simscale_on_step_end(self, run: Any) -> None:
        self.weights.append(
            torch.cat([p.detach().flatten().clone() for p in run.policy.parameters()])
        )
        self.scales.append(run.precision.state_dict().get("scale", 1.0))
        self.updates.append(run.counters.updates)


def train(
    directory: Path,
    *,
    policy: nn.Module | None = None,
    watcher: Watcher | None = None,
    **fields: Any,
) -> dict[str, float]:
    data = DummyTrajectoryDataset(20, obs_dim=6, action_dim=2)
    small: dict[str, Any] = {
        "max_steps": 10, "lr": 1e-2, "warmup_steps": 2, "log_every": 3, "eval_every": 0,
        "save_every": 0, "keep_last": 99, "loggers": (), "device": "cpu", "batch_size": 4,
        "precision": "amp", "options": ON_CPU, "checkpoint_dir": str(directory),
    }  # fmt: skip
    config = TrainConfig(**{**small, **fields})
    loader = DataLoader(data, batch_size=4, shuffle=True)
    listeners = () if watcher is None else (watcher,)
    return Trainer(policy or Probed(), loader, config, listeners=listeners).train()


def read(path: Path) -> dict[str, Any]:
    return read_checkpoint(path, PtBackend())


def differences(a: Any, b: Any, path: str = "$") -> list[str]:
    """Name every place where two trees are not equal to the last bit."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return [] if a.dtype == b.dtype and torch.equal(a, b) else [path]
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        keys = [f"{path}.{k}" for k in a.keys() ^ b.keys()]
        return keys + [
            f for k in a.keys() & b.keys() for f in differences(a[k], b[k], f"{path}.{k}")
        ]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        return [f for i, (x, y) in pairs for f in differences(x, y, f"{path}[{i}]")]
    return [] if type(a) is type(b) and a == b else [f"{path}: {a!r} != {b!r}"]
