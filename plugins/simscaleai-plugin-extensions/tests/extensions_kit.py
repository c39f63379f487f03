"""Tiny runs with extensions."""

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


class Small(nn.Module):
    """A small network with dropout, buffers of both kinds and a tied weight."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.encoder = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh())
            self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(8, 2))
        self.tied = self.head[1]

    def forward(self, batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        out = self.tied(self.head[0](self.encoder(batch["observations"]["state"])))
        return {"loss": (out - batch["actions"]).square().mean()}


class Scripted:
    """An eval function that returns given losses by step, the latest if there is none."""

    def __init__(self, values: Mapping[int, float], name: str = "loss") -> None:
        self.values, self.name, self.step = values, name, 0

    @hookimpl
    def simscale_on_step_end(self, run: Any) -> None:
        self.step = run.step

    @hookimpl
    def simscale_on_run_start(self, run: Any) -> None:
        self.step = run.step

    def __call__(self, policy: nn.Module) -> dict[str, float]:
        step = max(s for s in self.values if s <= self.step)
        return {self.name: self.values[step], "other": 0.0}


class Watcher:
    """Writes down weights and metrics after each step."""

    def __init__(self) -> None:
        self.weights: list[dict[str, torch.Tensor]] = []
        self.metrics: list[dict[str, float]] = []

    @hookimpl
    def simscale_on_step_end(self, run: Any) -> None:
        state = run.policy.state_dict()
        self.weights.append({n: t.clone() for n, t in state.items()})

    @hookimpl
    def simscale_on_metrics(self, run: Any, metrics: dict[str, float]) -> None:
        self.metrics.append(dict(metrics))


def loader(size: int = 20, seed: int = 42, *, shuffle: bool = True) -> DataLoader[Any]:
    data = DummyTrajectoryDataset(size, obs_dim=6, action_dim=2, seed=seed)
    return DataLoader(data, batch_size=4, shuffle=shuffle)


def train(
    directory: Path,
    *extensions: str,
    policy: nn.Module | None = None,
    listeners: tuple[object, ...] = (),
    evaluate: Any = None,
    held_out: bool = False,
    **fields: Any,
) -> dict[str, float]:
    small: dict[str, Any] = {
        "max_steps": 10, "lr": 1e-2, "warmup_steps": 2, "log_every": 3, "eval_every": 0,
        "save_every": 0, "keep_last": 99, "loggers": (), "device": "cpu", "batch_size": 4,
        "extensions": extensions, "checkpoint_dir": str(directory),
    }  # fmt: skip
    config = TrainConfig(**{**small, **fields})
    if isinstance(evaluate, Scripted):
        listeners = (*listeners, evaluate)
    return Trainer(
        policy or Small(),
        loader(),
        config,
        loader(10, seed=7, shuffle=False) if held_out else None,
        evaluate,
        listeners=listeners,
    ).train()


def read(path: Path) -> dict[str, Any]:
    return read_checkpoint(path, PtBackend())


def without_config(tree: dict[str, Any]) -> dict[str, Any]:
    return {**tree, "config": {}}


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
