"""Tiny policies, data and runs, small enough to train hundreds of times."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from simscaleai_core import TrainConfig, Trainer
from simscaleai_core.builtin.dummy import DummyTrajectoryDataset
from simscaleai_core.builtin.pt import PtBackend
from simscaleai_core.checkpoint.store import read_checkpoint
from simscaleai_core.host.facade import Host
from simscaleai_core.host.selection import select_plugins
from simscaleai_core.plugin import hookimpl

OBS, ACT = 6, 2
BARE_HOST = Host(select_plugins(none=True, environ={}))


class TinyPolicy(nn.Module):
    """A dropout network; its initial weights depend on the seed only."""

    def __init__(self, *, dropout: float = 0.0, hidden: int = 8, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.net = nn.Sequential(
                nn.Linear(OBS, hidden), nn.Tanh(), nn.Dropout(dropout), nn.Linear(hidden, ACT)
            )

    def forward(self, batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        error = self.net(batch["observations"]["state"]) - batch["actions"]
        return {"loss": error.square().mean(), "largest": error.detach().abs().max()}

    def predict(self, obs: torch.Tensor) -> torch.Tensor:
        return self.net(obs)


class ChunkPolicy(TinyPolicy):
    """Wants windows as long as its chunks, and a keyword that no dataset here knows."""

    def __init__(self, horizon: int = 4) -> None:
        super().__init__()
        self.horizon = horizon

    @classmethod
    def data_options(cls, horizon: int = 4) -> dict[str, Any]:
        return {"seq_len": horizon, "obs_len": 1, "pad": True, "point_clouds": True}


class DrawingData(Dataset[dict[str, Any]]):
    """Samples with noise from all three global generators, as augmentation would draw it."""

    def __init__(self, size: int = 20) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> dict[str, Any]:
        noise = [float(torch.rand(())), float(np.random.rand()), random.random()]
        state = torch.arange(OBS).float() * 0.1 + index / self.size
        state[:3] += 0.1 * torch.tensor(noise)
        return {"observations": {"state": state}, "actions": state[:ACT].sin(), "index": index}


def dummy_loader(size: int = 20, batch_size: int = 4, **options: Any) -> DataLoader[Any]:
    data = DummyTrajectoryDataset(size, obs_dim=OBS, action_dim=ACT)
    return DataLoader(data, batch_size=batch_size, **{"shuffle": True, **options})


def config_for(directory: Path | str, **fields: Any) -> TrainConfig:
    small = {
        "max_steps": 12, "lr": 1e-2, "warmup_steps": 2, "log_every": 5, "eval_every": 0,
        "save_every": 0, "keep_last": 99, "loggers": (), "device": "cpu", "batch_size": 4,
    }  # fmt: skip
    return TrainConfig(checkpoint_dir=str(directory), **{**small, **fields})


def train(
    directory: Path | str,
    *,
    policy: nn.Module | None = None,
    loader: Any = None,
    listeners: tuple[object, ...] = (),
    eval_loader: Any = None,
    eval_fn: Any = None,
    host: Host = BARE_HOST,
    **fields: Any,
) -> dict[str, float]:
    trainer = Trainer(
        TinyPolicy(dropout=0.2) if policy is None else policy,
        dummy_loader() if loader is None else loader,
        config_for(directory, **fields),
        eval_loader,
        eval_fn,
        host=host,
        listeners=listeners,
    )
    return trainer.train()


def read(path: Path | str) -> dict[str, Any]:
    return read_checkpoint(Path(path), PtBackend())


def differences(a: Any, b: Any, path: str = "$") -> list[str]:
    """Name every place where two trees are not equal to the last bit."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        same = a.dtype == b.dtype and torch.equal(a.view(-1), b.view(-1)) and a.shape == b.shape
        return [] if same or (a.isnan() & b.isnan()).any() else [path]
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        keys = [f"{path}.{k}" for k in a.keys() ^ b.keys()]
        return keys + [
            f for k in a.keys() & b.keys() for f in differences(a[k], b[k], f"{path}.{k}")
        ]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        return [f for i, (x, y) in pairs for f in differences(x, y, f"{path}[{i}]")]
    both_nan = a != a and b != b
    return [] if both_nan or (type(a) is type(b) and a == b) else [f"{path}: {a!r} != {b!r}"]


class Recorder:
    """Listens to everything and writes down what it hears."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.rates: list[float] = []
        self.status: list[str] = []

    @hookimpl
    def simscale_on_run_setup(self, run: Any) -> None:
        self.calls.append("setup")

    @hookimpl
    def simscale_on_run_start(self, run: Any) -> None:
        self.calls.append(f"start@{run.step}")

    @hookimpl
    def simscale_on_grads_ready(self, run: Any) -> None:
        self.rates.append(run.optimizer.param_groups[0]["lr"])

    @hookimpl
    def simscale_on_step_end(self, run: Any) -> None:
        self.calls.append(f"step@{run.step}")

    @hookimpl
    def simscale_on_metrics(self, run: Any, metrics: dict[str, float]) -> None:
        self.calls.append(f"metrics@{run.step}")

    @hookimpl
    def simscale_on_eval_end(self, run: Any, name: str) -> None:
        self.calls.append(f"eval:{name}@{run.step}")

    @hookimpl
    def simscale_on_checkpoint_saved(self, run: Any, info: Any) -> None:
        self.calls.append(f"saved:{info.file}@{info.step}")

    @hookimpl
    def simscale_on_run_exception(self, error: BaseException) -> None:
        self.calls.append(f"exception:{type(error).__name__}")

    @hookimpl
    def simscale_on_run_end(self, status: str) -> None:
        self.calls.append(f"end:{status}")
        self.status.append(status)


class DrawingLogger:
    """A logger that draws from every generator whenever it is told something."""

    def __init__(self, config: TrainConfig, options: None = None) -> None:
        self.config = config

    def start(self, facts: Mapping[str, Any], step: int) -> None:
        draw()

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        draw()

    def close(self, status: str) -> None:
        draw()


class FailingLogger(DrawingLogger):
    """A logger that raises whenever it is told metrics."""

    calls = 0

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        type(self).calls += 1
        raise ConnectionResetError("tracker gone")

    def close(self, status: str) -> None:
        raise OSError("cannot close")


def draw() -> None:
    """Draw from every global generator."""
    torch.rand(3)
    np.random.rand()
    random.random()
